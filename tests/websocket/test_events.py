"""Server-sent events: each arrives before the next is sent, whatever is spoken."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable

import httpx

from tests.control.running import Gateway

Start = Callable[..., Gateway]

COUNT = 5


class Events:
    """Sends an event whenever it is let, chunked, to one connection after the other."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.let = threading.Semaphore(0)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            with conn:
                conn.recv(65536)
                conn.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
                    b"connection: close\r\n\r\n"
                )
                for number in range(COUNT):
                    assert self.let.acquire(timeout=10)
                    event = b"data: %d\n\n" % number
                    conn.sendall(b"%x\r\n%s\r\n" % (len(event), event))
                conn.sendall(b"0\r\n\r\n")


def test_events_are_never_held_back(start: Start) -> None:
    events = Events()
    gateway = start(events.port, "")
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request("GET", "/events")
    response = connection.getresponse()
    for number in range(COUNT):
        events.let.release()
        # The next is not sent before this one was read.
        assert response.readline() == b"data: %d\n" % number
        assert response.readline() == b"\n"
    assert response.read() == b""
    connection.close()
    with (
        httpx.Client(http1=False, http2=True, timeout=10, trust_env=False) as client,
        client.stream("GET", f"http://127.0.0.1:{gateway.port}/events") as stream,
    ):
        assert stream.http_version == "HTTP/2"
        pieces = stream.iter_bytes()
        for number in range(COUNT):
            events.let.release()
            assert next(pieces) == b"data: %d\n\n" % number
        assert list(pieces) == []
    events.sock.close()

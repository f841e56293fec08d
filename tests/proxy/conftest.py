"""Real gateways before an upstream that writes down what it receives."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.control.running import Gateway

Handler = Callable[[socket.socket, bytes], None]


class Upstream:
    """Answers by `handler(connection, first bytes)`, one thread per connection; remembers all it read first."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.received: list[bytes] = []
        self.handler: Handler = plain
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with conn:
            conn.settimeout(20)
            try:
                while data := conn.recv(65536):
                    self.received.append(data)
                    self.handler(conn, data)
            except OSError:
                return


def plain(conn: socket.socket, _data: bytes) -> None:
    conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.sock.close()


@pytest.fixture(scope="module")
def gateway(upstream: Upstream) -> Iterator[tuple[str, int]]:
    """Address of a gateway with one worker; it must not have logged an uncaught error by the end."""
    directory = Path(tempfile.mkdtemp(prefix="pygate-"))
    running = Gateway(directory, upstream.port, count=1)
    try:
        running.start()
        yield "127.0.0.1", running.port
        log = running.log
    finally:
        running.close()
        shutil.rmtree(directory, ignore_errors=True)
    for sign in ("Traceback", "panicked", "Exception ignored", "exception handler"):
        assert sign not in log, log

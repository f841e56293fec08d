"""The HTTP/1.1 data plane on real sockets: bad input, streaming, tunnels."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from tests.proxy.conftest import Upstream, plain

Address = tuple[str, int]

MALFORMED = {
    "both lengths": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "signed length": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: +3\r\n\r\nabc",
    "bare LF": b"GET / HTTP/1.1\nhost: h\n\n",
    "space before colon": b"GET / HTTP/1.1\r\nhost : h\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nhost: h\r\nx: a\r\n b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "obscured coding": b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "two codings": b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "empty lines": b"\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n",
    "control byte": b"GET / HTTP/1.1\r\nhost: h\r\nx: \x00\r\n\r\n",
    "leaves the root": b"GET /../../etc HTTP/1.1\r\nhost: h\r\n\r\n",
    "escaped slash": b"GET /a%2fb HTTP/1.1\r\nhost: h\r\n\r\n",
    "named framing": b"GET / HTTP/1.1\r\nhost: h\r\nconnection: content-length\r\n\r\n",
}


def read_all(conn: socket.socket) -> bytes:
    """Everything until the peer closes its side."""
    out = b""
    while data := conn.recv(1 << 16):
        out += data
    return out


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests_are_refused_and_not_forwarded(
    gateway: Address, upstream: Upstream, raw: bytes, bytewise: bool
) -> None:
    before = len(upstream.received)
    with socket.create_connection(gateway, timeout=10) as conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in [raw[i : i + 1] for i in range(len(raw))] if bytewise else [raw]:
            conn.sendall(piece)
        answer = read_all(conn)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"connection: close\r\n" in answer and b"x-pygate-error: bad-request\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert len(upstream.received) == before


def test_a_client_still_sending_reads_why_it_was_refused(gateway: Address) -> None:
    # Without a lingering close the unread input would turn the answer into a reset.
    head = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
    with socket.create_connection(gateway, timeout=10) as conn:
        conn.sendall(head)
        time.sleep(0.05)
        conn.sendall(b"x" * 200_000)
        assert read_all(conn).startswith(b"HTTP/1.1 400 ")


def test_ten_megabytes_pass_both_ways(gateway: Address, upstream: Upstream) -> None:
    body = bytes(range(256)) * 40_960

    def echo(conn: socket.socket, data: bytes) -> None:
        _, _, got = data.partition(b"\r\n\r\n")
        while len(got) < len(body):
            got += conn.recv(1 << 16)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(got) + got)

    upstream.handler = echo
    try:
        answer = httpx.post(f"http://{gateway[0]}:{gateway[1]}/", content=body, timeout=30)
    finally:
        upstream.handler = plain
    assert answer.status_code == 200 and answer.content == body


def tunnel(conn: socket.socket, data: bytes) -> None:
    if data.startswith(b"GET "):
        conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nready")
    else:
        conn.sendall(data)


def test_an_upgraded_connection_carries_bytes_until_it_is_closed(gateway: Address, upstream: Upstream) -> None:
    upstream.handler = tunnel
    try:
        with socket.create_connection(gateway, timeout=10) as conn:
            conn.sendall(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            got = b""
            while not got.endswith(b"ready"):
                got += conn.recv(4096)
            assert got.startswith(b"HTTP/1.1 101 ")
            for size in (1, 1000, 300_000):
                conn.sendall(b"\xff" * size)
                left = size
                while left:
                    left -= len(conn.recv(1 << 16))
            conn.shutdown(socket.SHUT_WR)
            assert read_all(conn) == b""
    finally:
        upstream.handler = plain


@pytest.mark.parametrize("leave", [lambda c: c.close(), lambda c: c.shutdown(socket.SHUT_RDWR)])
def test_clients_that_leave_disturb_nobody(gateway: Address, leave: Callable[[socket.socket], None]) -> None:
    for _ in range(50):
        conn = socket.create_connection(gateway, timeout=10)
        conn.sendall(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nabc")
        leave(conn)
        conn.close()
    assert httpx.get(f"http://{gateway[0]}:{gateway[1]}/").text == "hello"


def test_many_connections_at_once(gateway: Address) -> None:
    answers: list[bytes] = []

    def work() -> None:
        conns = [socket.create_connection(gateway, timeout=20) for _ in range(50)]
        for conn in conns:
            conn.sendall(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        for conn in conns:
            answers.append(read_all(conn))
            conn.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 300
    assert all(a.startswith(b"HTTP/1.1 200 ") and a.endswith(b"hello") for a in answers)

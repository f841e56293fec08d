"""Thousands of connections that made one request each and then wait."""

from __future__ import annotations

import contextlib
import select
import socket
import time

from tests.chaos.greedy.link import Target
from tests.chaos.greedy.steady import REQUEST, tls_context

#: Connections per second at most.
RATE = 2000.0


def hold(target: Target, count: int) -> None:
    """Makes them, waits, and tells of each whether it still stands."""
    context = tls_context()
    held: list[tuple[socket.socket, float]] = []
    for number in range(count):
        time.sleep(max(0.0, target.started + number / RATE - time.monotonic()))
        try:
            sock = socket.create_connection(("127.0.0.1", target.port), 20)
            if target.tls:
                sock = context.wrap_socket(sock, server_hostname="greedy.test")
            sock.sendall(REQUEST)
            answer = b""
            while not answer.endswith(b"u" * 20):
                data = sock.recv(4096)
                if not data:
                    raise ConnectionError("closed before the answer")
                answer += data
            held.append((sock, time.monotonic()))
        except OSError:
            target.ends.append(("refused", 0.0))
    time.sleep(max(1.0, target.left))
    poll = select.poll()
    for sock, _ in held:
        poll.register(sock, select.POLLIN)
    # TLS has tickets to read; whoever was cut off has an end to read.
    readable = {fd for fd, _ in poll.poll(0)}
    for sock, began in held:
        end = "cut" if sock.fileno() in readable and _ended(sock) else "held"
        target.ends.append((end, time.monotonic() - began))
        with contextlib.suppress(OSError):
            sock.close()


def _ended(sock: socket.socket) -> bool:
    sock.settimeout(0.01)
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True

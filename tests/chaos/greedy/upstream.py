"""`python -m tests.chaos.greedy.upstream`: what greedy clients ask for. Prints its port; ends with its standard input.

/small   20 bytes               /big     8 MiB, written as fast as they are taken
/sink    reads the whole body   /deaf    never reads the body
/bomb    64 MiB of zeros, compressed by gzip
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import sys

import uvloop

from tests.chaos.upstream import parse_head

BIG = 8 << 20
PIECE = b"u" * (64 << 10)
BOMB_SIZE = 64 << 20


def bomb(size: int = BOMB_SIZE) -> bytes:
    """That many zeros, compressed by gzip: a thousandth of it."""
    return gzip.compress(bytes(size), 9, mtime=0)


async def swallow(reader: asyncio.StreamReader, fields: dict[str, str]) -> None:
    """Reads a body to its end and looks at nothing: whoever sends a million chunks is not to be felt here."""
    if fields.get("transfer-encoding") == "chunked":
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            tail = tail[-5:] + await _some(reader)
        return
    left = int(fields.get("content-length", "0"))
    while left > 0:
        left -= len(await _some(reader, left))


async def _some(reader: asyncio.StreamReader, most: int = 1 << 18) -> bytes:
    data = await reader.read(min(most, 1 << 18))
    if not data:
        raise asyncio.IncompleteReadError(b"", None)
    return data


class Upstream:
    def __init__(self) -> None:
        self._bomb = bomb()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # RuntimeError: uvloop's word for a write to a connection that was reset meanwhile.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, RuntimeError):
            while True:
                await self._exchange(reader, writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, fields = parse_head(await reader.readuntil(b"\r\n\r\n"))
        path = first.split(" ")[1].partition("?")[0]
        if path == "/deaf":
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(3600)
        await swallow(reader, fields)
        if path == "/big":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % BIG)
            for _ in range(BIG // len(PIECE)):
                writer.write(PIECE)
                await writer.drain()
        elif path == "/bomb":
            head = (
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
            )
            writer.write(head % len(self._bomb) + self._bomb)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\n" + PIECE[:20])
        await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(Upstream().serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())

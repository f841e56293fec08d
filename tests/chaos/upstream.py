"""`python -m tests.chaos.upstream RECORD`: answers as the query says and writes down what it was asked.

    GET /any?status=404&size=300&chunks=3&gap_ms=20

Answers with `status` and `size` bytes, in one piece or in `chunks` pieces `gap_ms` apart. `x-seen` carries the
request's `x-rev` back, `x-received` the bytes of its body. RECORD gets one line `path request-id` per request, before
the answer. Prints its port; ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from urllib.parse import parse_qsl, urlsplit

import uvloop


async def read_body(reader: asyncio.StreamReader, fields: dict[str, str]) -> int:
    """Bytes of a message's body, read to its end."""
    if fields.get("transfer-encoding") != "chunked":
        length = int(fields.get("content-length", "0"))
        await reader.readexactly(length)
        return length
    total = 0
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        await reader.readexactly(size + 2)
        total += size
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return total


def parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    """First line and fields, names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    return first, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


class Upstream:
    """One listening upstream."""

    def __init__(self, record: str) -> None:
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # RuntimeError: uvloop's word for a write to a connection that was reset meanwhile.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, RuntimeError):
            while True:
                await self._exchange(reader, writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, fields = parse_head(await reader.readuntil(b"\r\n\r\n"))
        method, target, _ = first.split(" ")
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        os.write(self._record, f"{url.path} {fields.get('x-request-id', '-')}\n".encode())
        received = await read_body(reader, fields)
        status, size, chunks = int(query.get("status", 200)), int(query.get("size", 20)), int(query.get("chunks", 0))
        head = f"HTTP/1.1 {status} Said\r\nx-seen: {fields.get('x-rev', '-')}\r\nx-received: {received}\r\n"
        if status == 204 or method == "HEAD":
            writer.write(f"{head}\r\n".encode())
        elif not chunks:
            writer.write(f"{head}content-length: {size}\r\n\r\n".encode() + b"u" * size)
        else:
            writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
            for _ in range(chunks):
                await asyncio.sleep(int(query.get("gap_ms", 0)) / 1000)
                piece = b"u" * max(1, size // chunks)
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            writer.write(b"0\r\n\r\n")
        await writer.drain()


async def main(record: str) -> None:
    server = await asyncio.start_server(Upstream(record).serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))

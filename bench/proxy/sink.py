"""An upstream that reads request bodies to their end and then answers: `python -m bench.proxy.sink PORT`.

nginx cannot do this cheaply – `return` answers before the body has come, everything else stores it – and an upstream
that costs more than the gateway would be the bottleneck of the upload case. One shared buffer, nothing is kept.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ndone\n"
REFUSAL = b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BUFFER = memoryview(bytearray(256 << 10))


class Sink(asyncio.BufferedProtocol):
    """One connection; bodies need a Content-Length."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._left > nbytes:
            self._left -= nbytes
            return
        rest = bytes(BUFFER[self._left : nbytes])
        if self._left:
            self._left = 0
            self._transport.write(ANSWER)
        self._head += rest
        while b"\r\n\r\n" in self._head:
            head, _, body = self._head.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if length is None:
                self._transport.write(REFUSAL)
                self._transport.close()
                return
            self._left = int(length[1]) - len(body)
            self._head = b"" if self._left > 0 else body[int(length[1]) :]
            if self._left > 0:
                return
            self._left = 0
            self._transport.write(ANSWER)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

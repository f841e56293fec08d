"""Upstreams that write down every byte they get, one listener per lane, and answer as the row at hand says.

Rules:

1. Only one row runs on a lane at a time: what its upstream receives is that row's doing.
2. A request whose target begins with `/-/` is the runner's own: answered plainly, never reported.
3. Every other request is answered 200 with `x-saw: METHOD TARGET`, or with the row's bytes, whatever was asked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any, cast

from tests.hostile.framed import FramedConnection
from tests.hostile.messages import Malformed, Message, read_request
from tests.hostile.record import Record, UpstreamConnection
from tests.hostile.steps import Cut, play


class Connection(asyncio.Protocol):
    """One connection from the gateway."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.transport: asyncio.Transport | None = None
        self._rest = bytearray()
        self.closed = False
        self._answered_head = False

    @property
    def rest(self) -> bytes:
        return bytes(self._rest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._upstream.open.add(self)
        if self._upstream.answer and self._upstream.answer_at == "connect":
            self._give_row_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._upstream.open.discard(self)

    def data_received(self, data: bytes) -> None:
        record = self._upstream.record
        record.touched.add(self)
        self._rest += data
        if self._upstream.tunnel is self:
            return
        if self._upstream.answer and self._upstream.answer_at == "head" and not self._answered_head:
            if b"\r\n\r\n" in self._rest and not self._rest.split(b" ", 2)[1].startswith(b"/-/"):
                self._answered_head = True
                self._give_row_answer()
        while True:
            try:
                found = read_request(bytes(self._rest))
            except Malformed as e:
                record.malformed.append(f"{e} in {bytes(self._rest[:200])!r}")
                self.close()
                return
            if found is None:
                return
            message, used = found
            del self._rest[:used]
            own = message.target.startswith("/-/")
            if not own:
                record.requests.append((self, message))
            if self._answered_head:
                self._answered_head = False
            elif self._upstream.answer and not own:
                self._give_row_answer()
                if self._upstream.tunnel is self:
                    return
            else:
                self._plain(message)

    def _plain(self, message: Message) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        method, target = message.start
        body = b"" if method == "HEAD" else b"seen"
        head = f"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-saw: {method} {target}\r\n\r\n"
        self.transport.write(head.encode() + body)

    def _give_row_answer(self) -> None:
        upstream, transport = self._upstream, self.transport
        assert transport is not None
        upstream.record.answered = self
        if upstream.becomes_tunnel:
            upstream.tunnel = self
        upstream.playing = asyncio.ensure_future(
            play(upstream.answer, transport, upstream.cut, lambda text: text.encode("latin-1") in self._rest)
        )

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Upstream:
    """One lane's upstream; `framed` speaks HTTP/2."""

    def __init__(self, framed: bool = False) -> None:
        self._framed = framed
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self.sock.getsockname()[1]
        self.record = Record()
        self.open: set[UpstreamConnection] = set()
        self.answer: Sequence[Any] = ()
        self.answer_at = "end"
        self.cut: Cut = None
        self.becomes_tunnel = False
        self.tunnel: UpstreamConnection | None = None
        self.playing: asyncio.Future[None] | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        kind = FramedConnection if self._framed else Connection
        self._server = await loop.create_server(lambda: kind(self), sock=self.sock)

    def begin(self, answer: Sequence[Any] = (), answer_at: str = "end", cut: Cut = None) -> Record:
        """A new row: its record, and what it wants answered."""
        self.record = Record()
        self.answer, self.answer_at, self.cut = answer, answer_at, cut
        self.becomes_tunnel = any(isinstance(step, str) and step.startswith("HTTP/1.1 101") for step in answer)
        self.tunnel = None
        return self.record

    def end(self) -> None:
        """The row is over: from now on everything is answered plainly."""
        if self.playing is not None:
            self.playing.cancel()
            self.playing = None
        self.answer = ()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.open):
            if connection.transport is not None:
                connection.transport.abort()

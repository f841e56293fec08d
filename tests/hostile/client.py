"""The hostile client's connection: a raw socket that sends what it is told and keeps all that comes back."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from typing import Any, cast

from tests.hostile.messages import Message, read_answer
from tests.hostile.steps import Cut, play

#: Longest wait for a handshake, seconds: a busy machine.
HANDSHAKE = 30.0


class Client(asyncio.Protocol):
    """One connection to the gateway, plain or inside TLS (one record per piece)."""

    def __init__(self, context: ssl.SSLContext | None = None, name: str = "localhost", fragment: int = 0) -> None:
        self.received = bytearray()
        self.eof = False
        self.reset = False
        self.lost = False
        self._transport: asyncio.Transport | None = None
        self._news = asyncio.Event()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name or None)
        #: Bytes per record of the first flight; 0: as it is made.
        self._fragment = fragment
        self.secured = False
        self.tls_error = ""

    @classmethod
    async def connect(
        cls, port: int, context: ssl.SSLContext | None = None, name: str = "localhost", fragment: int = 0
    ) -> Client:
        """A connection to the gateway; with a context the handshake is done, or `tls_error` says why not."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: cls(context, name, fragment), "127.0.0.1", port)
        if client._tls is not None:
            client._pump(b"")
            await client.until(lambda: client.secured or client.closed, HANDSHAKE)
        return client

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    @property
    def tls(self) -> ssl.SSLObject | None:
        return self._tls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._tls is None:
            self.received += data
        else:
            self._pump(data)
        self._news.set()

    def eof_received(self) -> bool:
        self.eof = True
        self._news.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.reset |= isinstance(exc, OSError) and not self.eof
        self._news.set()

    def _pump(self, data: bytes) -> None:
        """Ciphertext in, plaintext and answers out."""
        assert self._tls is not None
        self._incoming.write(data)
        try:
            if not self.secured:
                self._tls.do_handshake()
                self.secured = True
            while plain := self._tls.read(1 << 16):
                self.received += plain
            self.eof = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.eof = True
        except ssl.SSLError as e:
            self.tls_error = e.reason or str(e)
            self.eof = True
        self._flush()

    def _flush(self) -> None:
        ciphertext = self._outgoing.read()
        if self._fragment:
            ciphertext, self._fragment = fragmented(ciphertext, self._fragment), 0
        if ciphertext and not self.transport.is_closing():
            self.transport.write(ciphertext)

    def write(self, data: bytes) -> None:
        if self._tls is None:
            self.transport.write(data)
            return
        with contextlib.suppress(ssl.SSLError):
            self._tls.write(data)
        self._flush()

    async def send(self, steps: Sequence[Any], cut: Cut, reached: Callable[[str], bool] | None = None) -> None:
        """Plays the steps; `wait` is for a text, unless `reached` says otherwise."""
        await play(steps, self.transport, cut, reached or self._has, self.write)

    def _has(self, text: str) -> bool:
        return text.encode("latin-1") in self.received

    @property
    def closed(self) -> bool:
        """The gateway ended the connection, one way or the other."""
        return self.eof or self.lost

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Waits for news until the condition holds; whether it does."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            self._news.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(left, 0.05))
        return True

    def close(self) -> None:
        if not self.lost:
            self.transport.abort()


def fragmented(records: bytes, size: int) -> bytes:
    """The same handshake in records of at most `size` bytes (RFC 8446 §5.1)."""
    out, at = bytearray(), 0
    while at < len(records):
        kind, version = records[at : at + 1], records[at + 1 : at + 3]
        length = int.from_bytes(records[at + 3 : at + 5], "big")
        body, at = records[at + 5 : at + 5 + length], at + 5 + length
        for i in range(0, length, size):
            piece = body[i : i + size]
            out += kind + version + len(piece).to_bytes(2, "big") + piece
    return bytes(out)


def answers(data: bytes, closed: bool, first_to_head: bool) -> tuple[list[Message], list[Message], bytes]:
    """Final answers, interim answers, and what is behind the last complete one.

    Raises `Malformed` for bytes that are no answers.
    """
    final: list[Message] = []
    interim: list[Message] = []
    while True:
        found = read_answer(data, first_to_head and not final, closed)
        if found is None:
            return final, interim, data
        message, used = found
        data = data[used:]
        if message.status == 101:
            return [*final, message], interim, data
        (interim if message.status < 200 else final).append(message)

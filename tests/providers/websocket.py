"""The server's side of WebSocket (RFC 6455) on a connection of the simulator: texts in, texts out.

Messages may come in fragments, at most 16 MiB; pings are answered; what breaks the protocol closes with 1002.
Never: extensions, binary messages (1003).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib

from tests.providers.server import Connection
from tests.providers.wire import Headers, Request

ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MOST = 16 << 20
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def wanted(request: Request) -> bool:
    return (request.header("upgrade") or "").lower() == "websocket" and bool(request.header("sec-websocket-key"))


class WebSocket:
    """`receive` returns None when the client is done."""

    def __init__(self, request: Request, connection: Connection, headers: Headers) -> None:
        self.connection = connection
        self.messages: asyncio.Queue[str | None] = asyncio.Queue()
        self.buffer = bytearray()
        self.parts = bytearray()
        self.closed = False
        key = (request.header("sec-websocket-key") or "").encode()
        digest = base64.b64encode(hashlib.sha1(key + ACCEPT).digest()).decode()
        fields = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", digest), *headers]
        offered = [name.strip() for name in (request.header("sec-websocket-protocol") or "").split(",")]
        if "realtime" in offered:
            fields.append(("sec-websocket-protocol", "realtime"))
        connection.upgrade(fields, self._feed)

    async def receive(self) -> str | None:
        return await self.messages.get()

    async def send(self, text: str) -> None:
        if not self.closed:
            self._write(TEXT, text.encode())
            await self.connection.drain()

    def close(self, code: int = 1000) -> None:
        if not self.closed:
            self.closed = True
            self._write(CLOSE, code.to_bytes(2, "big"))
            self.messages.put_nowait(None)

    def _write(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | kind, size))
        elif size < 1 << 16:
            head = bytes((0x80 | kind, 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | kind, 127)) + size.to_bytes(8, "big")
        self.connection.transport.write(head + payload)

    def _feed(self, data: bytes) -> None:
        self.buffer += data
        while not self.closed and self._frame():
            pass

    def _frame(self) -> bool:
        """Takes one frame from the buffer if it is complete."""
        buffer = self.buffer
        if len(buffer) < 2:
            return False
        final, kind, size, at = buffer[0] & 0x80, buffer[0] & 0x0F, buffer[1] & 0x7F, 2
        if buffer[0] & 0x70 or not buffer[1] & 0x80:
            self.close(1002)
            return False
        if size > 125:
            at = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:at], "big")
        if size + len(self.parts) > MOST:
            self.close(1009)
            return False
        if len(buffer) < at + 4 + size:
            return False
        mask = bytes(buffer[at : at + 4])
        payload = bytes(octet ^ mask[place & 3] for place, octet in enumerate(buffer[at + 4 : at + 4 + size]))
        del buffer[: at + 4 + size]
        if kind == CLOSE:
            self.close(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1000)
        elif kind == PING:
            self._write(PONG, payload)
        elif kind == BINARY:
            self.close(1003)
        elif kind in (0, TEXT):
            self.parts += payload
            if final:
                text, self.parts = self.parts.decode("utf-8", "replace"), bytearray()
                self.messages.put_nowait(text)
        elif kind != PONG:
            self.close(1002)
        return True

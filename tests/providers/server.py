"""HTTP/1.1 of the simulator: reads requests, one after the other on a connection, writes answers, notices who leaves.

Rules: heads of at most 64 KiB, bodies of at most 64 MiB, by length or chunked. What is no HTTP/1.1 is answered by 400
and the end of the connection. A connection that the client closes cancels the answer in progress at once.

Never: TLS, HTTP/2, two answers at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import cast

from tests.providers.wire import Headers, Request, Whole

HEAD = 64 << 10
BODY = 64 << 20
Service = Callable[[Request, "Connection"], Awaitable[None]]


class Malformed(Exception):
    """Not a request."""


class Connection(asyncio.Protocol):
    """One client. A service writes by `head`, `chunk`, `end` and `whole`, and leaves by `abort`."""

    opened = 0

    def __init__(self, service: Service) -> None:
        self.service = service
        self.buffer = bytearray()
        self.request: Request | None = None
        self.body = bytearray()
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport
        self.writable = asyncio.Event()
        self.writable.set()
        self.gone = False
        self.keep = True
        self.receive: Callable[[bytes], None] | None = None
        """Takes what comes after an upgrade."""
        Connection.opened += 1
        self.number = Connection.opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.writable.set()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        if self.receive is not None:
            self.receive(data)
            return
        self.buffer += data
        if self.task is None:
            self._next()

    def _next(self) -> None:
        try:
            request = self._read()
        except (Malformed, ValueError) as error:
            self.keep = False
            self.whole(Whole.json({"error": {"message": f"simulator: {error}"}}, status=400))
            self.transport.close()
            return
        if request is not None:
            self.task = asyncio.get_running_loop().create_task(self._serve(request))
            self.task.add_done_callback(self._served)

    def _read(self) -> Request | None:
        buffer = self.buffer
        if self.request is None:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(buffer) > HEAD:
                    raise Malformed("the head is too long")
                return None
            self.request = _head(bytes(buffer[:end]))
            self.body = bytearray()
            del buffer[: end + 4]
            if (self.request.header("expect") or "").lower() == "100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = self.request
        if (request.header("transfer-encoding") or "").lower() == "chunked":
            if not self._chunks():
                return None
        else:
            length = int(request.header("content-length") or 0)
            if not 0 <= length <= BODY:
                raise Malformed("the body is too long")
            if len(buffer) < length:
                return None
            self.body += buffer[:length]
            del buffer[:length]
        self.request = None
        self.keep = (request.header("connection") or "").lower() != "close"
        request.body = bytes(self.body)
        return request

    def _chunks(self) -> bool:
        """Whether the last chunk has come."""
        buffer = self.buffer
        while (line := buffer.find(b"\r\n")) >= 0:
            size = int(bytes(buffer[:line]).split(b";")[0], 16)
            if size == 0:
                end = buffer.find(b"\r\n\r\n", line)
                if end >= 0:
                    del buffer[: end + 4]
                return end >= 0
            if len(self.body) + size > BODY:
                raise Malformed("the body is too long")
            if len(buffer) < line + size + 4:
                return False
            self.body += buffer[line + 2 : line + 2 + size]
            del buffer[: line + size + 4]
        return False

    async def _serve(self, request: Request) -> None:
        try:
            await self.service(request, self)
        except asyncio.CancelledError:
            if not self.gone:
                raise
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self.transport.abort()

    def _served(self, task: asyncio.Task[None]) -> None:
        self.task = None
        if self.gone:
            return
        if not self.keep:
            self.transport.close()
        elif self.buffer:
            self._next()

    # ---- for services ------------------------------------------------------------------------------------------------

    def whole(self, answer: Whole, most: int | None = None) -> None:
        """A complete answer; with `most` only so many octets of the body it announced."""
        headers: Headers = [("content-type", answer.kind), ("content-length", str(len(answer.body))), *answer.headers]
        self.transport.write(_head_octets(answer.status, headers, self.keep) + answer.body[:most])

    def head(self, status: int, headers: Headers) -> None:
        """Of an answer in chunks."""
        fields = [*headers, ("transfer-encoding", "chunked")]
        self.transport.write(_head_octets(status, fields, self.keep))

    def chunk(self, data: bytes) -> None:
        if data:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.transport.write(b"0\r\n\r\n")

    async def drain(self) -> None:
        if not self.writable.is_set():
            await self.writable.wait()

    def upgrade(self, headers: Headers, receive: Callable[[bytes], None]) -> None:
        """From now on the connection speaks another protocol."""
        self.keep = True
        self.transport.write(_head_octets(101, headers, True))
        self.receive = receive
        if held := bytes(self.buffer):
            self.buffer.clear()
            receive(held)

    def abort(self) -> None:
        """By RST: the socket is told not to linger."""
        self.keep = False
        with socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def close(self) -> None:
        self.keep = False
        self.transport.close()


def _head(octets: bytes) -> Request:
    first, *lines = octets.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise Malformed("not an HTTP/1.1 request")
    headers: Headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Malformed("a header without a colon")
        headers.append((name.lower(), value.strip(" \t")))
    return Request(parts[0], parts[1], headers)


def _head_octets(status: int, headers: Headers, keep: bool) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Overloaded" if status == 529 else "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if not keep:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

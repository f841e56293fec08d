"""A small HTTP/1.1 server for the admin listener: h11 for the protocol, asyncio streams for the bytes.

Bounded everywhere: connections, head, body, time. Every answer is complete before it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import h11

log = logging.getLogger("pygate.admin")

MAX_CONNECTIONS = 256
MAX_BODY = 1 << 20
HEAD_TIMEOUT = 10.0
IDLE_TIMEOUT = 75.0
ANSWER_TIMEOUT = 150.0


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


class Server:
    """Serves `handler` on connections of one listening socket."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._connections = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection (for `asyncio.start_server`)."""
        if self._connections >= MAX_CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        try:
            await self._serve(reader, writer)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._connections -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16 << 10)
        first = True
        while True:
            try:
                async with asyncio.timeout(HEAD_TIMEOUT if first else IDLE_TIMEOUT):
                    request = await self._request(connection, reader)
            except h11.RemoteProtocolError as e:
                response = Response(e.error_status_hint, b"malformed request\n")
                with contextlib.suppress(h11.LocalProtocolError):
                    await self._answer(connection, writer, response, "GET")
                return
            if request is None:
                return
            first = False
            response = await self._handle(request)
            await self._answer(connection, writer, response, request.method)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _request(self, connection: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
        request: Request | None = None
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(16 << 10))
            elif isinstance(event, h11.Request):
                path, _, query = event.target.decode("latin-1").partition("?")
                headers = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in event.headers}
                request = Request(event.method.decode("latin-1"), path, query, headers, b"")
            elif isinstance(event, h11.Data) and request is not None:
                request.body += event.data
                if len(request.body) > MAX_BODY:
                    raise h11.RemoteProtocolError("body too large", error_status_hint=413)
            elif isinstance(event, h11.EndOfMessage):
                return request
            else:
                return None

    async def _handle(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await self._handler(request)
        except Exception:
            log.exception("admin request failed: %s %s", request.method, request.path)
            return Response(500, b"internal error\n")

    async def _answer(
        self, connection: h11.Connection, writer: asyncio.StreamWriter, response: Response, method: str
    ) -> None:
        headers = {
            "content-type": response.content_type,
            "content-length": str(len(response.body)),
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            **response.headers,
        }
        reason = HTTPStatus(response.status).phrase
        head = h11.Response(status_code=response.status, reason=reason, headers=list(headers.items()))
        out = connection.send(head) or b""
        if method != "HEAD":
            out += connection.send(h11.Data(data=response.body)) or b""
        out += connection.send(h11.EndOfMessage()) or b""
        writer.write(out)
        async with asyncio.timeout(HEAD_TIMEOUT):
            await writer.drain()

"""`python -m tests.suites.upstream`: what lies behind the gateway. Prints its ports as JSON; ends with standard input.

- HTTP/1.1 by aiohttp: `/echo` answers with what it got, `/headers` with the request's fields, `/big?size=N` with N
  bytes, `/events` with server-sent events a tenth of a second apart, `/status/N` with that status, `/file` by ranges.
- WebSocket by `websockets`: every message comes back; `close` is answered by closing with 4000.
- gRPC by grpcio, messages are bytes: `/suite.Echo/Unary`, `Up` (client streams), `Down` (server streams), `Both`;
  `Fail` ends with the status in its message, `Slow` takes five seconds and counts those that were cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import websockets
from aiohttp import web

FILE = bytes(range(256)) * 400
MOST = 16 << 20
cancelled = 0


async def echo(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    kind = request.headers.get("content-type", "application/octet-stream")
    return web.Response(body=body or b"hello", headers={"content-type": kind, "x-method": request.method})


async def headers(request: web.Request) -> web.StreamResponse:
    return web.json_response([[name.lower(), value] for name, value in request.headers.items()])


async def big(request: web.Request) -> web.StreamResponse:
    left = int(request.query["size"])
    response = web.StreamResponse(headers={"content-length": str(left)})
    await response.prepare(request)
    if request.method == "HEAD":  # aiohttp would send what is written: octets no answer owns
        left = 0
    while left:
        piece = b"u" * min(left, 65536)
        await response.write(piece)
        left -= len(piece)
    await response.write_eof()
    return response


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for number in range(5):
        await response.write(b"data: %d\n\n" % number)
        await asyncio.sleep(0.1)
    await response.write_eof()
    return response


async def status(request: web.Request) -> web.StreamResponse:
    return web.Response(status=int(request.match_info["code"]), text="told to")


async def repeat(connection: websockets.ServerConnection) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in connection:
            if message == "close":
                await connection.close(4000, "as asked")
            await connection.send(message)


async def unary(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    sent = dict(context.invocation_metadata() or ())
    if "x-sent" in sent:
        await context.send_initial_metadata((("x-first", str(sent["x-sent"])),))
        context.set_trailing_metadata((("x-last", str(sent["x-sent"])), ("x-last-bin", b"\0\xff")))
    return message


async def up(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return b"+".join([message async for message in messages])


async def down(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
    for number in range(int(message)):
        yield b"%d" % number


async def both(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message


async def fail(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    await context.abort(getattr(grpc.StatusCode, message.decode()), "as asked: ü")
    raise AssertionError("abort raises")


async def slow(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    global cancelled
    if message == b"cancelled":
        return b"%d" % cancelled
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        cancelled += 1
        raise
    return message


async def main() -> None:
    # Clients that leave or send rubbish are what this is for.
    logging.disable()
    app = web.Application(client_max_size=64 << 20)
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        Path(file.name).write_bytes(FILE)
        app.router.add_route("*", "/echo", echo)
        app.router.add_get("/headers", headers)
        app.router.add_get("/big", big)
        app.router.add_get("/events", events)
        app.router.add_get("/status/{code}", status)
        app.router.add_get("/file", lambda _: asyncio.sleep(0, web.FileResponse(file.name)))
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", MOST)])
        methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "Up": grpc.stream_unary_rpc_method_handler(up),
            "Down": grpc.unary_stream_rpc_method_handler(down),
            "Both": grpc.stream_stream_rpc_method_handler(both),
            "Fail": grpc.unary_unary_rpc_method_handler(fail),
            "Slow": grpc.unary_unary_rpc_method_handler(slow),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("suite.Echo", methods),))
        calls = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with websockets.serve(repeat, "127.0.0.1", 0, max_size=MOST) as socket:
            ports = {"http": runner.addresses[0][1], "calls": calls}
            ports["messages"] = next(iter(socket.sockets)).getsockname()[1]
            print(json.dumps(ports), flush=True)
            await asyncio.to_thread(sys.stdin.read)
        await server.stop(None)
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())

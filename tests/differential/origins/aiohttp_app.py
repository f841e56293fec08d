"""An aiohttp server with the parser it has in Python; the other one is llhttp, which uvicorn and Node show."""

from __future__ import annotations

import asyncio
import os

os.environ["AIOHTTP_NO_EXTENSIONS"] = "1"

from aiohttp import web  # noqa: E402

from tests.differential.origins.journal import Journal, ports  # noqa: E402

journal = Journal("aiohttp")


async def handle(request: web.BaseRequest) -> web.StreamResponse:
    try:
        body, complete = await request.read(), True
    except (web.RequestPayloadError, OSError):
        body, complete = b"", False
    transport = request.transport
    port = transport.get_extra_info("sockname")[1] if transport else 0
    peer = transport.get_extra_info("peername")[1] if transport else 0
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
    text = journal.note(port, peer, request.method, request.raw_path, headers, body, complete)
    status = 200 if complete else 400
    return web.Response(status=status, body=text, headers={"x-origin": "aiohttp"}, content_type="application/json")


async def main() -> None:
    runner = web.ServerRunner(web.Server(handle, keepalive_timeout=120))
    await runner.setup()
    for port in ports():
        await web.TCPSite(runner, "127.0.0.1", port, backlog=256).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

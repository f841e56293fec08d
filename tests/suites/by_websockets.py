"""The `websockets` client and server, the gateway between them: as a tunnel and reading messages."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.suites.check import Check, Checks
from tests.suites.place import Place

LONG = "äöü" * 200_000


def run(place: Place) -> list[Check]:
    checks = Checks("websockets")
    context = ssl.create_default_context(cafile=str(place.authority))
    asyncio.run(_run(f"ws://localhost:{place.web}", None, checks, ""))
    asyncio.run(_run(f"wss://localhost:{place.secure}", context, checks, ", TLS"))
    return checks.found


async def _run(url: str, context: ssl.SSLContext | None, checks: Checks, over: str) -> None:
    for path in ("tunnel", "aware"):
        where = f"{path}{over}"

        def opened(path: str = path, **options: Any) -> connect:
            return connect(f"{url}/{path}", ssl=context, max_size=16 << 20, open_timeout=10, close_timeout=5, **options)

        with checks.feature(f"{where}: text and binary"):
            async with opened() as connection:
                for message in ("hello", "", "ü" * 100, b"\0\xff" * 40_000):
                    assert await _echo(connection, message) == message
        with checks.feature(f"{where}: long messages"):
            async with opened(compression=None) as connection:
                assert await _echo(connection, LONG) == LONG
        with checks.feature(f"{where}: fragments"):
            async with opened(compression=None) as connection:
                assert await _echo(connection, ["one ", "two ", "three"]) == "one two three"
        with checks.feature(f"{where}: permessage-deflate"):
            async with opened(compression="deflate") as connection:
                agreed = connection.response.headers.get("sec-websocket-extensions", "") if connection.response else ""
                assert "permessage-deflate" in agreed, agreed
                for text in (LONG, "again", LONG):
                    assert await _echo(connection, text) == text
                assert await _echo(connection, ["in ", "pieces"]) == "in pieces"
        with checks.feature(f"{where}: permessage-deflate without context"):
            factory = ClientPerMessageDeflateFactory(
                server_no_context_takeover=True, client_no_context_takeover=True, client_max_window_bits=10
            )
            async with opened(compression=None, extensions=[factory]) as connection:
                for message in (LONG, "again", LONG):
                    assert await _echo(connection, message) == message
        with checks.feature(f"{where}: pings"):
            async with opened() as connection:
                for _ in range(3):
                    await asyncio.wait_for(await connection.ping(b"are you there"), 5)
        with checks.feature(f"{where}: client closes"):
            async with opened() as connection:
                await connection.close(1000, "done")
                assert connection.close_code == 1000
        with checks.feature(f"{where}: server closes with its code"):
            async with opened() as connection:
                await connection.send("close")
                try:
                    await asyncio.wait_for(connection.recv(), 5)
                except websockets.ConnectionClosed:
                    assert (connection.close_code, connection.close_reason) == (4000, "as asked")
                else:
                    raise AssertionError("not closed")
        with checks.feature(f"{where}: many messages in flight"):
            async with opened() as connection:
                sending = asyncio.create_task(_send(connection, 500))
                got = [await asyncio.wait_for(connection.recv(), 10) for _ in range(500)]
                await sending
                assert got == [f"message {n}" for n in range(500)]


async def _send(connection: ClientConnection, count: int) -> None:
    for number in range(count):
        await connection.send(f"message {number}")


async def _echo(connection: ClientConnection, message: Any) -> Any:
    await connection.send(message)
    return await asyncio.wait_for(connection.recv(), 10)

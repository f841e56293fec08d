"""The suite's own promise: an error that only reached a loop's exception handler fails the test."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

BODY = """
import asyncio

import uvloop

class Broken(asyncio.Protocol):
    def connection_made(self, transport):
        {line}

async def connect():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(Broken, *server.sockets[0].getsockname())
    await asyncio.sleep(0.05)
    transport.abort()
    server.close()

def test_protocol():
    {run}(connect())
"""


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
@pytest.mark.parametrize(("line", "outcome"), [("pass", {"passed": 1}), ("1 / 0", {"passed": 1, "errors": 1})])
def test_uncaught_in_callback(pytester: pytest.Pytester, run: str, line: str, outcome: dict[str, int]) -> None:
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makepyfile(BODY.format(run=run, line=line))
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(**outcome)

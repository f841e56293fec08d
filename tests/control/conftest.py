"""A real upstream and real gateways."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pygate.admin.http import Request, Response, Server
from pygate.demo.upstream import answer
from tests.control.running import Gateway


async def _answer(request: Request) -> Response:
    if request.path == "/slow":
        await asyncio.sleep(1.0)
    return await answer(request)


@pytest.fixture(scope="session")
def upstream() -> Iterator[int]:
    """Port of an echo upstream; `/slow` takes a second."""
    sock = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(Server(_answer).connected, sock=sock))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield sock.getsockname()[1]

    async def end() -> None:
        server.close()
        rest = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
    thread.join(10)
    loop.close()


@pytest.fixture
def gateway(upstream: int) -> Iterator[Gateway]:
    """A gateway that is not started yet, in a directory whose path is short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="pygate-"))
    gateway = Gateway(directory, upstream)
    try:
        yield gateway
    finally:
        gateway.close()
        shutil.rmtree(directory, ignore_errors=True)

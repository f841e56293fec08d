"""`python -m tests.chaos.client ADDRESS PROFILE CONNECTIONS SEED RECORD`: load over keep-alive connections.

Runs until its standard input is closed and writes RECORD as things happen, one line each, times by the system's
monotonic clock in nanoseconds:

    answered TIME ID STATUS PATH REV SEEN REVISION    a complete answer: `x-rev`, `x-seen` and `x-pygate-revision`
    refused TIME                                      a connection that was refused
    unanswered TIME WHY                               a request without a complete answer; a GET is sent again
    wrong TIME WHAT                                   a complete answer that is not the one asked for
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import uvloop

from tests.chaos.upstream import parse_head, read_body

#: Longest wait for an answer, in seconds.
PATIENCE = 20.0
ROUTES = 1000


@dataclass(frozen=True)
class Request:
    """What to ask, and the status it must be answered with."""

    method: str
    target: str
    body: int = 0
    status: int = 200

    def head(self) -> bytes:
        length = f"content-length: {self.body}\r\n" if self.method == "POST" else ""
        return f"{self.method} {self.target} HTTP/1.1\r\nhost: chaos.test\r\n{length}\r\n".encode()


def for_kill(rng: random.Random, paths: list[str]) -> Request:
    """Small calls on the routes at `paths`, all statuses, some in pieces."""
    path = rng.choice(paths)
    status = rng.choice((200, 200, 200, 204, 404, 500))
    chunks = rng.choice((0, 0, 0, 3))
    target = f"{path}?status={status}&size={rng.randrange(1, 2000)}&chunks={chunks}&gap_ms={rng.choice((0, 0, 5))}"
    posted = rng.random() < 0.2
    return Request("POST", target, rng.randrange(500), status) if posted else Request("GET", target, 0, status)


def for_reload(rng: random.Random) -> Request:
    """Calls over a thousand routes, some with bodies, some answered in slow pieces."""
    path, kind = f"/r{rng.randrange(ROUTES)}/x", rng.random()
    if kind < 0.15:
        return Request("POST", f"{path}?size=10", rng.randrange(1, 100_000))
    if kind < 0.25:
        return Request("GET", f"{path}?size=3000&chunks=6&gap_ms={rng.randrange(60)}")
    return Request("GET", f"{path}?size={rng.randrange(1, 4000)}")


def drawer(profile: str) -> Callable[[random.Random], Request]:
    """`reload`, or the paths of `for_kill` joined by `+`."""
    if profile == "reload":
        return for_reload
    paths = [f"/{name}" for name in profile.split("+")]
    return lambda rng: for_kill(rng, paths)


class Client:
    """One connection after the other, one request after the other."""

    def __init__(self, address: tuple[str, int], profile: str, rng: random.Random, record: int) -> None:
        self._address, self._draw, self._rng, self._record = address, drawer(profile), rng, record
        self._stop = False

    def stop(self) -> None:
        """The request under way is the last."""
        self._stop = True

    async def run(self) -> None:
        request = self._draw(self._rng)
        while not self._stop:
            try:
                reader, writer = await asyncio.open_connection(*self._address)
            except OSError as e:
                if isinstance(e, ConnectionRefusedError):
                    self._note("refused")
                else:
                    # Accepted by a process that was killed before it served it.
                    self._note("unanswered", f"connecting:{type(e).__name__}")
                await asyncio.sleep(0.02)
                continue
            try:
                while not self._stop:
                    again = await self._exchange(request, reader, writer)
                    request = self._draw(self._rng)
                    if not again:
                        break
            except (OSError, EOFError, TimeoutError) as e:
                self._note("unanswered", f"{request.method}:{type(e).__name__}")
                if request.method != "GET":
                    request = self._draw(self._rng)
            writer.close()

    async def _exchange(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its whole answer; whether the connection can be used again."""
        async with asyncio.timeout(PATIENCE):
            writer.write(request.head())
            if request.body:
                # In two pieces, so that a configuration may change between them.
                writer.write(b"b" * (request.body // 2))
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(b"b" * (request.body - request.body // 2))
            first, fields = parse_head(await reader.readuntil(b"\r\n\r\n"))
            status = int(first.split(" ")[1])
            if status != 204:
                await read_body(reader, fields)
        if status != request.status or fields.get("x-received") != str(request.body):
            code, received = fields.get("x-pygate-error", ""), fields.get("x-received")
            self._note("wrong", f"{request.target}:{status}:{code}:{received}")
        told = [fields.get(name, "-") for name in ("x-request-id", "x-rev", "x-seen", "x-pygate-revision")]
        path = request.target.partition("?")[0]
        self._note("answered", f"{told[0]} {status} {path} {told[1]} {told[2]} {told[3]}")
        return fields.get("connection") != "close"

    def _note(self, what: str, more: str = "") -> None:
        os.write(self._record, f"{what} {time.monotonic_ns()} {more}\n".encode())


async def main(address: str, profile: str, connections: int, seed: int, path: str) -> None:
    host, _, port = address.rpartition(":")
    record = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    clients = [Client((host, int(port)), profile, random.Random(seed * 1000 + n), record) for n in range(connections)]
    running = [asyncio.create_task(client.run()) for client in clients]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for client in clients:
        client.stop()
    await asyncio.gather(*running)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))

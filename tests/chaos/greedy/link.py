"""One connection of a greedy client, and how it ended.

Ends are told in one word: the status of an answer (`"408"`), `"goaway"`, `"cut"` when the gateway closed the connection
without a word, `"refused"` when there was none, `"held"` when it still stood as the attack was over.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.greedy.steady import tls_context

#: Of one read from the gateway; also what a connection that is not read takes in by itself.
READ = 4096


@dataclass
class Target:
    """Whom to attack, and how long."""

    port: int
    tls: bool
    seconds: float
    directory: Path = Path()
    """Where what was prepared lies."""
    grace: float = 0.0
    """A connection that is younger than this when the attack is over tells nothing."""
    started: float = field(default_factory=time.monotonic)
    #: (end, seconds after the connection was made)
    ends: list[tuple[str, float]] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Seconds until the attack is over."""
        return self.started + self.seconds - time.monotonic()


class Cut(Exception):
    """The gateway ended the connection before the handshake was done."""


@dataclass
class Link:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def end(self) -> str:
        """Reads until the gateway ends the connection."""
        seen = bytearray()
        with contextlib.suppress(OSError, EOFError):
            while data := await self.reader.read(READ):
                seen += data[: max(0, 64 - len(seen))]
        return told(bytes(seen))

    async def send(self, data: bytes) -> bool:
        """Whether the connection still takes bytes; waits until these are on their way."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except (OSError, RuntimeError):
            return False
        return not self.writer.is_closing()


def told(seen: bytes) -> str:
    """The end that the first bytes of an answer tell."""
    if seen.startswith(b"HTTP/1.1 ") and seen[9:12].isdigit():
        return seen[9:12].decode()
    return "cut"


@contextlib.asynccontextmanager
async def connected(target: Target) -> AsyncIterator[Link]:
    """A connection with little room for what is not read."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", target.port))
    except BaseException:
        sock.close()
        raise
    try:
        reader, writer = await asyncio.open_connection(
            sock=sock,
            limit=READ,
            ssl=tls_context() if target.tls else None,
            server_hostname="greedy.test" if target.tls else None,
        )
    except OSError as error:
        sock.close()
        raise Cut from error
    except BaseException:
        sock.close()
        raise
    try:
        yield Link(reader, writer)
    finally:
        writer.transport.abort()


async def attack(
    target: Target, count: int, once: Callable[[Link], Awaitable[str]], again: float | None, late: float = 0.0
) -> None:
    """`once` on `count` connections at a time until the attack is over, or `late` seconds later; `again`: seconds until
    the next connection, None: there is none."""
    target.started = time.monotonic()

    async def one(number: int) -> None:
        # Not all in one instant: a burst of connections is an attack of another kind.
        await asyncio.sleep(min(1.0, target.seconds / 4) * number / count)
        while target.left > 0:
            began = time.monotonic()
            try:
                async with asyncio.timeout(target.left + late):
                    async with connected(target) as link:
                        began = time.monotonic()
                        end = await once(link)
            except TimeoutError:
                end = "held"
            except Cut:
                end = "cut"
            except OSError:
                end = "refused"
            took = time.monotonic() - began
            if again is None or end != "held" or took > target.grace:
                target.ends.append((end, took))
            if again is None:
                return
            await asyncio.sleep(again)

    await asyncio.gather(*(one(number) for number in range(count)))


async def dripping(link: Link, first: bytes, drops: Iterable[bytes], gap: float) -> str:
    """Sends `first`, then a drop every `gap` seconds, until the gateway ends it."""

    async def drip() -> None:
        await link.send(first)
        for drop in drops:
            await asyncio.sleep(gap)
            if not await link.send(drop):
                return

    dropping = asyncio.create_task(drip())
    try:
        return await link.end()
    finally:
        dropping.cancel()

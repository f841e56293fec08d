"""Clients that take their time: in the handshake, the head, the body, and in reading an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import ssl
from collections.abc import Iterable, Iterator

from tests.chaos.greedy.link import READ, Link, Target, attack, dripping
from tests.chaos.greedy.steady import tls_context
from tests.chaos.greedy.upstream import BIG

HEAD = b"GET /small HTTP/1.1\r\nhost: greedy.test\r\n"
POST = b"POST %b HTTP/1.1\r\nhost: greedy.test\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
GAP = 0.25
CATCH_UP = 30.0
"""Seconds after an attack in which those that did not read do."""


def client_hello() -> bytes:
    """The first flight of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = tls_context().wrap_bio(incoming, outgoing, server_hostname="greedy.test")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake cannot be done without an answer")


def singly(data: Iterable[int]) -> Iterator[bytes]:
    """One byte at a time."""
    return (bytes([byte]) for byte in data)


async def handshake(target: Target, count: int) -> None:
    """A ClientHello byte by byte."""
    hello = client_hello()
    await attack(
        dataclasses.replace(target, tls=False),
        count,
        lambda link: dripping(link, hello[:40], singly(hello[40:-1]), GAP),
        None,
    )


async def silence(target: Target, count: int) -> None:
    """A TLS entrypoint that hears nothing."""
    await attack(dataclasses.replace(target, tls=False), count, Link.end, None)


async def head(target: Target, count: int) -> None:
    """A request head that never ends, a byte at a time."""
    line = b"x-a: b\r\n"
    await attack(target, count, lambda link: dripping(link, HEAD, singly(itertools.cycle(line)), GAP), None)


async def body(target: Target, count: int) -> None:
    """A body that stops after its first bytes."""
    first = POST % (b"/sink", 1 << 20) + b"b" * 1024
    await attack(target, count, lambda link: dripping(link, first, (), GAP), None)


async def drip(target: Target, count: int) -> None:
    """A body byte by byte, on a route with a deadline for the whole exchange."""
    drops = itertools.repeat(b"b")
    await attack(target, count, lambda link: dripping(link, POST % (b"/timed", 1 << 20), drops, GAP), None)


async def stalled(target: Target, count: int) -> None:
    """A big answer that is not read at all."""

    async def once(link: Link) -> str:
        await link.send(b"GET /big HTTP/1.1\r\nhost: greedy.test\r\n\r\n")
        # Whoever does not read is not told either: whether it was cut off shows when it reads after all, and gets no
        # more than what lay in the kernel.
        await asyncio.sleep(max(0.0, target.left))
        taken = 0
        while data := await link.reader.read(1 << 16):
            taken += len(data)
            if taken >= BIG:
                return "held"
        return "cut"

    await attack(target, count, once, None, CATCH_UP)


async def trickle(target: Target, count: int) -> None:
    """A big answer, read a little at a time."""

    async def once(link: Link) -> str:
        await link.send(b"GET /big HTTP/1.1\r\nhost: greedy.test\r\n\r\n")
        while await link.reader.read(READ):
            await asyncio.sleep(GAP)
        return "cut"

    await attack(target, count, once, None)

"""Bytes and what is between them: the steps of a row, played onto a transport.

A step is a text (bytes by Latin-1) or a table with one of these keys:

- `{ repeat = TEXT, times = N }`: many bytes, sent in one go or in pieces of 509 when the row is cut at every byte
- `{ gzip = TEXT, times = N }`: the rest of a head, with the length of what follows: that text, compressed
- `{ pause = SECONDS }`
- `{ wait = TEXT }`: until the peer has sent this (or, among frames, until that event)
- `{ close = "write" | "both" | "reset" }`: half close, close, abort
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

#: Where a row's bytes are cut: nowhere, at "bytes", or once behind that many bytes.
Cut = int | str | None

#: Long runs of bytes are cut coarser than at every byte.
COARSE, LONG = 509, 2048

#: Between two pieces, so that the other side reads them apart. With many lanes the turns of the others do it.
GAP = 0.0003


def length(steps: Iterable[Any]) -> int:
    """Bytes of all texts."""
    return sum(len(text(step)) for step in steps)


def text(step: Any) -> bytes:
    """The bytes of a step; of one that sends none, nothing."""
    if isinstance(step, str):
        return step.encode("latin-1")
    if "gzip" in step:
        packed = _packed(step["gzip"], int(step.get("times", 1)))
        return b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    if "repeat" in step:
        return bytes(step["repeat"].encode("latin-1")) * int(step["times"])
    return b""


@functools.cache
def _packed(plain: str, times: int) -> bytes:
    return gzip.compress(plain.encode("latin-1") * times, mtime=0)


def pieces(steps: Sequence[Any], cut: Cut) -> list[Any]:
    """Steps with their bytes cut: bytes objects, and the steps that send none as they are."""
    whole = _joined([text(step) or step for step in steps])
    out: list[Any] = []
    at = 0
    for step in whole:
        if not isinstance(step, bytes):
            out.append(step)
            continue
        if cut == "bytes":
            size = COARSE if len(step) > LONG else 1
            out.extend(step[i : i + size] for i in range(0, len(step), size))
        elif isinstance(cut, int) and at < cut < at + len(step):
            out.extend((step[: cut - at], step[cut - at :]))
        else:
            out.append(step)
        at += len(step)
    return out


def _joined(steps: list[Any]) -> list[Any]:
    """Texts that follow one another are one."""
    out: list[Any] = []
    texts: list[bytes] = []
    for step in steps:
        if isinstance(step, bytes):
            texts.append(step)
            continue
        if texts:
            out.append(b"".join(texts))
            texts.clear()
        out.append(step)
    return [*out, b"".join(texts)] if texts else out


async def play(
    steps: Sequence[Any],
    transport: asyncio.Transport,
    cut: Cut,
    reached: Callable[[str], bool],
    write: Callable[[bytes], None] | None = None,
) -> None:
    """Sends the steps; stops quietly when the connection is gone. `write` stands for the transport's own."""
    write = write or transport.write
    for step in pieces(steps, cut):
        if transport.is_closing():
            return
        if isinstance(step, bytes):
            write(step)
            if cut is not None:
                await asyncio.sleep(GAP)
        elif "pause" in step:
            await asyncio.sleep(step["pause"])
        elif "wait" in step:
            while not reached(step["wait"]) and not transport.is_closing():
                await asyncio.sleep(0.002)
        elif "close" in step:
            await asyncio.sleep(0)
            if step["close"] == "write":
                transport.write_eof()
            elif step["close"] == "both":
                transport.close()
            else:
                reset(transport)
        else:
            raise ValueError(f"a step that is none: {step!r}")


def reset(transport: asyncio.Transport) -> None:
    """Ends the connection by RST: a close that does not linger."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()

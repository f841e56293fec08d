"""Rows that a raw socket cannot carry out: TLS 1.3 early data, which the `openssl` command sends, Python's `ssl` not.

A driver takes the row, the protocol, the cut and the lane, and returns what the client got.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.hostile import steps
from tests.hostile.client import answers
from tests.hostile.judge import Observed
from tests.hostile.lanes import Lane
from tests.hostile.rows import Row
from tests.hostile.steps import Cut

Driver = Callable[[Row, str, Cut, Lane], Awaitable[Observed]]

#: How long a client waits for an answer that may not come, seconds.
QUIET = 3.0


async def early_data(row: Row, protocol: str, cut: Cut, lane: Lane) -> Observed:
    """A session is begun by a plain request and resumed by one whose bytes are all in the first flight."""
    with tempfile.TemporaryDirectory() as place:
        session, request = Path(place) / "session", Path(place) / "request"
        request.write_bytes(b"".join(steps.text(step) for step in row.send))
        first = b"GET /-/first HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        began = await _openssl(lane, ["-sess_out", str(session)], first, 20)
        observed = Observed()
        if b"x-saw: GET /-/first" not in began or not session.exists():
            observed.trouble.append(f"no session to resume: {began[:200]!r}")
            return observed
        observed.raw = await _openssl(lane, ["-sess_in", str(session), "-early_data", str(request)], b"", QUIET)
    observed.final, observed.interim, observed.rest = answers(observed.raw, False, False)
    observed.closed = not row.stays_open and bool(observed.final)
    return observed


async def _openssl(lane: Lane, options: list[str], sent: bytes, seconds: float) -> bytes:
    """What the gateway answers to `sent` and to what the options send, until it closes or for so many seconds."""
    where = ["-connect", f"127.0.0.1:{lane.port}", "-servername", "localhost", "-tls1_3", "-quiet", "-ign_eof"]
    process = await asyncio.create_subprocess_exec(
        "openssl",
        "s_client",
        *where,
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(sent)
    got = b""
    with contextlib.suppress(asyncio.TimeoutError):
        async with asyncio.timeout(seconds):
            while data := await process.stdout.read(1 << 16):
                got += data
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    return got


DRIVERS: dict[str, Driver] = {"early_data": early_data}

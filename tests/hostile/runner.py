"""Runs one row in one manner on one lane, and says what is wrong with what came of it.

After every row, however it went: the lane serves a plain request on a new connection, and nothing of the row has
reached the upstream beyond what it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.hostile import multiplexed, special
from tests.hostile.client import Client, answers
from tests.hostile.judge import Observed, judge
from tests.hostile.lanes import Lane
from tests.hostile.messages import Malformed, Message
from tests.hostile.rows import Row
from tests.hostile.steps import Cut

#: Longest wait for the gateway's own requests.
PROBE = 30.0


@dataclass(frozen=True)
class Manner:
    """How a row is carried out: over what, and cut where."""

    protocol: str
    cut: Cut = None

    def __str__(self) -> str:
        cut = {None: "whole", "bytes": "every byte"}.get(self.cut, f"cut at {self.cut}")  # type: ignore[arg-type]
        return f"{self.protocol}, {cut}"


@dataclass
class Run:
    """One row in one manner: the complaints, none if it passed."""

    row: Row
    manner: Manner
    complaints: list[str] = field(default_factory=list)


async def run(row: Row, manner: Manner, lane: Lane) -> Run:
    """Never raises: whatever goes wrong is a complaint."""
    try:
        complaints = await asyncio.wait_for(_run(row, manner, lane), 3 * row.timeout + 3 * PROBE)
    except Exception as e:
        complaints = [f"{type(e).__name__}: {e}"]
    lane.upstream.end()
    return Run(row, manner, complaints)


async def _run(row: Row, manner: Manner, lane: Lane) -> list[str]:
    upstream_cut = manner.cut if row.answer else None
    record = lane.upstream.begin(row.answer, row.answer_at, upstream_cut)
    if row.special:
        observed = await special.DRIVERS[row.special](row, manner.protocol, manner.cut, lane)
    elif manner.protocol in ("h2", "h2c"):
        observed = await multiplexed.exchange(row, manner.protocol, manner.cut, lane)
    else:
        observed = await _http1(row, manner, lane)
    lane.upstream.end()
    if trouble := await probe(lane):
        observed.trouble.append(trouble)
    return judge(row, observed, record)


async def _http1(row: Row, manner: Manner, lane: Lane) -> Observed:
    client, steps = await _connect(row, manner, lane)
    observed = Observed()
    try:
        sending = asyncio.ensure_future(client.send(steps, None if row.answer else manner.cut))
        to_head = str(row.send[0]).startswith("HEAD ")
        wanted = len(row.statuses)

        def settled() -> bool:
            try:
                final, _, _ = answers(bytes(client.received), client.closed, to_head)
            except Malformed:
                return True
            return client.closed or len(final) >= max(wanted, 1)

        await client.until(settled, row.timeout)
        if client.closed:
            sending.cancel()
        else:
            await asyncio.wait_for(sending, row.timeout)
        await observe(observed, client, row, to_head, wanted)
    finally:
        client.close()
    return observed


async def _connect(row: Row, manner: Manner, lane: Lane) -> tuple[Client, Sequence[Any]]:
    """The connection, its handshake made as the row's first step says, and the other steps."""
    steps, how = row.send, {}
    if steps and isinstance(steps[0], dict) and "tls" in steps[0]:
        how, steps = steps[0]["tls"], steps[1:]
    if manner.protocol != "h1-tls" or how.get("plain"):
        return await Client.connect(lane.port), steps
    assert lane.certificates is not None
    context = lane.certificates.client_context(["http/1.1"], how.get("client", ""), how.get("newest", ""))
    return await Client.connect(lane.port, context, how.get("sni", "localhost"), int(how.get("fragment", 0))), steps


async def observe(observed: Observed, client: Client, row: Row, to_head: bool, wanted: int) -> None:
    """Waits for what must still come, and writes down what the client got."""
    if row.stays_open:
        await _goes_on(observed, client, to_head, wanted)
    elif row.expect == "gateway error" and answers(bytes(client.received), client.closed, to_head)[0]:
        pass
    elif row.expect != "silence":
        await client.until(lambda: client.closed, row.timeout)
    if not row.stays_open:
        observed.raw = bytes(client.received)
        try:
            observed.final, observed.interim, observed.rest = answers(observed.raw, client.closed, to_head)
        except Malformed as e:
            observed.trouble.append(f"the client cannot read its answer: {e}; got {observed.raw[:300]!r}")
    observed.closed, observed.reset = client.closed, client.reset


async def _goes_on(observed: Observed, client: Client, to_head: bool, wanted: int) -> None:
    """The next request on the same connection gets its own answer: both sides agree where the last one ended."""
    observed.raw = before = bytes(client.received)
    try:
        observed.final, observed.interim, observed.rest = answers(before, client.closed, to_head)
        if len(observed.final) != wanted or observed.rest:
            return
        if observed.final and observed.final[-1].status == 101:
            return
        client.write(b"GET /-/same HTTP/1.1\r\nHost: h\r\n\r\n")
        await client.until(lambda: client.closed or len(_read(client, to_head)) > wanted, PROBE)
        more = _read(client, to_head)[wanted:]
    except Malformed as e:
        observed.trouble.append(f"the client cannot read its answer: {e}; got {bytes(client.received[:300])!r}")
        return
    if [(m.status, m.all("x-saw")) for m in more] != [(200, ["GET /-/same"])]:
        observed.trouble.append(
            f"the next request on the connection got {bytes(client.received[len(before) :])[:200]!r}"
        )


def _read(client: Client, to_head: bool) -> list[Message]:
    return answers(bytes(client.received), client.closed, to_head)[0]


async def probe(lane: Lane) -> str:
    """A plain request on a new connection; what is wrong with its answer."""
    context = lane.certificates.client_context(["http/1.1"]) if lane.tls and lane.certificates else None
    client = await Client.connect(lane.port, context)
    variant = lane.variant
    head = f"{variant.prefix}GET /-/new HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    try:
        client.write(head.encode("latin-1"))
        await client.until(lambda: client.closed, PROBE)
        final, _, rest = answers(bytes(client.received), client.closed, False)
    except Malformed as e:
        return f"a plain request afterwards: {e}"
    finally:
        client.close()
    if len(final) != 1 or final[0].status != 200 or final[0].all("x-saw") != ["GET /-/new"] or rest:
        return f"a plain request on a new connection got {bytes(client.received[:300])!r} {client.tls_error}"
    return ""

"""A whole run: which rows, in which manners, on which lanes; and its result."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.hostile import steps
from tests.hostile.lanes import Lane, Lanes, Variant, variants
from tests.hostile.rows import NotApplicable, Row, Table
from tests.hostile.runner import Manner, Run, run

#: Rows longer than this are not cut once at every place: a cut at every byte already is.
PAIRS = 200

#: What the gateway speaks: rows for other protocols are an error of the table.
PROTOCOLS = ("h1", "h1-tls", "h2c", "h2")


@dataclass
class Result:
    """What a run found."""

    rows: list[Row]
    not_applicable: list[NotApplicable]
    runs: int = 0
    seconds: float = 0.0
    #: Longest time this process, not the gateway, was held up: a busy machine.
    stall: float = 0.0
    failures: list[Run] = field(default_factory=list)
    #: Of the gateway as a whole: its log, its counters.
    findings: list[str] = field(default_factory=list)

    @property
    def failed_rows(self) -> list[str]:
        return sorted({failure.row.id for failure in self.failures})

    @property
    def ok(self) -> bool:
        return not self.failures and not self.findings

    @property
    def line(self) -> str:
        """The summary, one line."""
        kinds = Counter("generated" if row.generated else "written" for row in self.rows)
        return (
            f"hostile={'ok' if self.ok else 'failed'} rows={len(self.rows)} written={kinds['written']}"
            f" generated={kinds['generated']} not_applicable={len(self.not_applicable)} runs={self.runs}"
            f" passed={len(self.rows) - len(self.failed_rows)} failed={len(self.failed_rows)}"
            f" findings={len(self.findings)} seconds={self.seconds:.1f}"
            f" stall={self.stall:.1f}"
        )

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "ok": self.ok,
            "rows": len(self.rows),
            "written": sum(not row.generated for row in self.rows),
            "generated": sum(row.generated for row in self.rows),
            "runs": self.runs,
            "passed": len(self.rows) - len(self.failed_rows),
            "failed": len(self.failed_rows),
            "seconds": round(self.seconds, 2),
            "catalogue": sorted(Table(self.rows, self.not_applicable).covered()),
            "not_applicable": [
                {"id": item.id, "catalogue": list(item.catalogue), "what": item.what, "because": item.because}
                for item in self.not_applicable
            ],
            "findings": self.findings,
            "failures": [
                {"id": f.row.id, "manner": str(f.manner), "what": f.row.what, "complaints": f.complaints}
                for f in self.failures
            ],
            "table": [
                {
                    "id": row.id,
                    "catalogue": list(row.catalogue),
                    "what": row.what,
                    "source": row.source,
                    "hostile": row.hostile,
                    "protocols": list(row.protocols),
                    "expect": row.expected,
                    "ok": row.id not in self.failed_rows,
                }
                for row in self.rows
            ],
        }


#: What is still to be done, by variant and whether over TLS.
Queues = dict[tuple[str, bool], deque[tuple[Row, Manner]]]


def manners(row: Row, quick: bool) -> list[Manner]:
    """In what ways a row is carried out. Quick: one of a list goes over its first protocol only."""
    found: list[Manner] = []
    for number, protocol in enumerate(row.protocols[:1] if quick and row.generated else row.protocols):
        if "whole" in row.pieces:
            found.append(Manner(protocol))
        thorough = not quick or (number == 0 and not row.generated)
        if "bytes" in row.pieces and thorough and not (row.generated and number > 0):
            found.append(Manner(protocol, "bytes"))
        size = steps.length(row.answer or row.send) if protocol.startswith("h1") else 0
        if "pairs" in row.pieces and not quick and number == 0 and size <= PAIRS:
            found.extend(Manner(protocol, at) for at in range(1, size))
    return found


async def carry_out(
    table: Table, only: Sequence[str] = (), quick: bool = False, progress: Callable[[int, int, Run], None] | None = None
) -> Result:
    """Runs the table, or the rows whose ids begin with one of `only`."""
    began = time.monotonic()
    known = variants()
    rows = [r for r in table.rows if not only or any(r.id == o or r.id.startswith(o + "-") for o in only)]
    rows = [row for row in rows if not (quick and row.slow)]
    for row in rows:
        if row.options not in known:
            raise ValueError(f"{row.id}: there is no variant {row.options!r}")
        if unknown := set(row.protocols) - set(PROTOCOLS):
            raise ValueError(f"{row.id}: unknown protocols {unknown}")
    result = Result(rows, table.not_applicable)
    # What waits for deadlines comes last, when nothing heavy runs beside it.
    phases = [_queues(rows, quick, slow) for slow in (False, True)]
    total = sum(len(queue) for queues in phases for queue in queues.values())
    kinds = list(dict.fromkeys(kind for queues in phases for kind in queues))
    wanted: list[Variant] = [known[name] for name in dict.fromkeys(name for name, _ in kinds)]
    async with Lanes(wanted, any(tls for _, tls in kinds)) as lanes:

        async def work(lane: Lane, queues: Queues) -> None:
            queue = queues.get((lane.variant.name, lane.tls), deque())
            while queue:
                row, manner = queue.popleft()
                done = await run(row, manner, lane)
                result.runs += 1
                if done.complaints:
                    result.failures.append(done)
                if progress is not None:
                    progress(result.runs, total, done)

        watch = asyncio.ensure_future(_watch(result))
        for queues in phases:
            await asyncio.gather(*(work(lane, queues) for lane in lanes.lanes))
            if left := {kind: len(queue) for kind, queue in queues.items() if queue}:
                result.findings.append(f"there is no lane for {left}")
        watch.cancel()
        result.findings += await asyncio.to_thread(lanes.findings)
    result.seconds = time.monotonic() - began
    return result


def _queues(rows: list[Row], quick: bool, slow: bool) -> Queues:
    queues: Queues = {}
    for row in rows:
        if row.slow == slow:
            for manner in manners(row, quick):
                queues.setdefault((row.options, secure(manner)), deque()).append((row, manner))
    return queues


def secure(manner: Manner) -> bool:
    """Whether TLS is spoken."""
    return manner.protocol in ("h1-tls", "h2")


async def _watch(result: Result) -> None:
    """Keeps the longest time the loop did not come round."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.05)
        result.stall = max(result.stall, time.monotonic() - before - 0.05)

"""Proving that nobody touched the log: every checksum, sequence and chain value of every segment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Any, Literal

from pygate._core import AuditVerifier


@dataclass(frozen=True)
class Segment:
    """What one segment turned out to be. `offset` and `next_sequence` say where it stops holding."""

    log: str
    file: str
    bytes: int
    frames: int
    records: int
    first_sequence: int
    next_sequence: int
    sealed: bool
    chain: str
    recovered: str | None
    state: Literal["ok", "torn", "damaged"]
    offset: int | None
    what: str | None


@dataclass
class Summary:
    """The whole log. `heads` has the last chain value of each log: keep them elsewhere to prove the end, too."""

    logs: int = 0
    segments: int = 0
    frames: int = 0
    records: int = 0
    bytes: int = 0
    damaged: list[Segment] = field(default_factory=list)
    torn: list[Segment] = field(default_factory=list)
    recovered: list[Segment] = field(default_factory=list)
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.damaged

    def add(self, segment: Segment) -> None:
        self.logs += segment.log not in self.heads
        self.segments += 1
        self.frames += segment.frames
        self.records += segment.records
        self.bytes += segment.bytes
        for found, what in ((segment.state == "damaged", self.damaged), (segment.state == "torn", self.torn)):
            if found:
                what.append(segment)
        if segment.recovered is not None:
            self.recovered.append(segment)
        self.heads[segment.log] = {"sequence": segment.next_sequence - 1, "chain": segment.chain}

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def verify(
    dir: str | PathLike[str], *, pruned: bool = False, progress: Callable[[int, int], None] | None = None
) -> Summary:
    """Verifies every log below `dir`; `pruned`: the first segments of a log may be gone.

    `progress(done, all)` is called in bytes after each segment. Raises OSError when something cannot be read.
    """
    verifier = AuditVerifier(dir, pruned)
    summary = Summary()
    while (step := verifier.step()) is not None:
        summary.add(Segment(**step))
        if progress is not None:
            progress(summary.bytes, verifier.bytes)
    return summary

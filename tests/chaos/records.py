"""Holding the audit log against what clients and the upstream have seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pygate import audit
from tests.chaos.scene import Answered


@dataclass
class Findings:
    """How the log compares. `lost` has a reason per answered call that the log does not hold as it was."""

    audited: int = 0
    lost: list[str] = field(default_factory=list)
    #: Upstream calls on routes with durability `call` without an intent.
    unannounced: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    records: int = 0

    @property
    def ok(self) -> bool:
        return not (self.lost or self.unannounced or self.damaged)


def compare(directory: Path, answered: list[Answered], called: list[tuple[str, str]]) -> Findings:
    """Every answered call has intent and outcome with its status, every call of `/call` its intent, the log holds."""
    summary = audit.verify(directory)
    found = Findings(records=summary.records)
    found.damaged = [f"{s.log}/{s.file} at {s.offset}: {s.what}" for s in summary.damaged]
    calls = {call["exchange"]: call for call in audit.query(directory, limit=100_000_000)}
    for answer in answered:
        call = calls.get(answer.id)
        if call is None:
            found.lost.append(f"{answer.id} {answer.path}: answered {answer.status}, not in the log")
        elif "start_ns" not in call or not call["complete"]:
            found.lost.append(f"{answer.id} {answer.path}: answered {answer.status}, half in the log")
        elif call["status"] != answer.status:
            found.lost.append(f"{answer.id} {answer.path}: answered {answer.status}, logged {call['status']}")
        else:
            found.audited += 1
    for path, identity in called:
        if path == "/call" and "start_ns" not in calls.get(identity, {}):
            found.unannounced.append(identity)
    return found

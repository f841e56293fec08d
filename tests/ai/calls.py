"""Calls as the audit log tells them, made up; and a log of them that is followed as a real one."""

from __future__ import annotations

from typing import Any

from pygate.audit.tail import Marks
from tests.ai.conftest import NOW


def call(at: float = NOW, **llm: Any) -> dict[str, Any]:
    """One call of a model that ended at `at`."""
    base = {
        "dialect": "openai",
        "operation": "chat",
        "model": "fast",
        "target": "gpt-5-mini",
        "provider": "openai",
        "credential": "main",
        "key": "key_1",
        "team": "platform",
        "project": "",
        "stream": False,
        "input": 100,
        "output": 20,
        "cached_read": 40,
        "cached_write": 0,
        "reasoning": 5,
        "audio_input": 0,
        "audio_output": 0,
        "estimated": False,
        "nano_usd": 1_500,
        "ttft_ns": None,
        "end": "clean",
        "loss": [],
    }
    return {"exchange": "x", "complete": True, "status": 200, "end_ns": int(at * 1e9), "llm": base | llm}


#: A call of something else.
PLAIN = {"exchange": "y", "complete": True, "status": 200, "end_ns": NOW * 10**9}


class Log:
    """Several logs of one audit directory; `open` stands in for `AuditTail`."""

    def __init__(self) -> None:
        self.calls: dict[str, list[dict[str, Any]]] = {}

    def write(self, log: str, *calls: dict[str, Any]) -> None:
        self.calls.setdefault(log, []).extend(calls)

    def open(self, directory: object, start: Marks | str) -> FakeTail:
        assert isinstance(start, dict) or start == "begin"
        return FakeTail(self, dict(start) if isinstance(start, dict) else {})


class FakeTail:
    """Reads at most three calls at once, log by log; a position is (1, 100 × calls, calls)."""

    def __init__(self, log: Log, marks: Marks) -> None:
        self._log = log
        self._marks = marks

    def calls(self, limit: int) -> tuple[list[dict[str, Any]], bool]:
        found: list[dict[str, Any]] = []
        for name, calls in self._log.calls.items():
            done = self._marks.get(name, (1, 0, 0))[2]
            taken = calls[done : done + 3 - len(found)]
            found += taken
            if taken:
                self._marks[name] = (1, 100 * (done + len(taken)), done + len(taken))
        left = sum(len(calls) for calls in self._log.calls.values()) - sum(mark[2] for mark in self._marks.values())
        return found, left > 0

    def marks(self) -> Marks:
        return dict(self._marks)

    def damaged(self) -> int:
        return 0

"""Follows the audit log for telemetry, across restarts of the control process.

Rules:

1. One reader per audit directory: `telemetry.lock` is held while reading. A successor waits for it, and goes on at
   the marks its predecessor left.
2. How far it came is noted every few seconds in `telemetry.marks`. After a crash the calls since then are told
   again; none is left out.
3. Without marks, reading begins with what comes from now on.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pygate._core import AuditTail
from pygate.audit.tail import Marks
from pygate.telemetry.access import Lines
from pygate.telemetry.call import Call
from pygate.telemetry.settings import Settings

#: Records read at once: about a megabyte of lines, which stays in the processor's cache until it is written.
READ = 4_000
#: Seconds between two notes of how far the log has been read.
SAVE_MARKS = 5.0


class Told(NamedTuple):
    lines: Lines
    #: Those that something is made of besides a line.
    calls: list[Call]
    #: The next are there already.
    more: bool
    #: Every call of a model, as `AuditTail` tells it.
    models: list[dict[str, Any]]


class RecordReader:
    """Call `read` again and again from one thread, then `close`."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        """Reads what `settings` have a use for: a call that only its line is made of never becomes a `Call`."""
        self._directory = directory
        self._sampled_only = not settings.reads_all_records
        self._lines = settings.access_log != "off"
        self._wanted = "latest" if not settings.exports else "all" if settings.logs == "all" else "sampled"
        self._models = settings.models
        self._lock: int | None = None
        self._tail: AuditTail | None = None
        self._saved = time.monotonic()

    @property
    def damaged(self) -> int:
        """Pieces of the log skipped because they were damaged."""
        return self._tail.damaged() if self._tail is not None else 0

    def open(self) -> None:
        """Finds the place to begin, unless another control process still reads. Raises OSError."""
        if self._tail is None and self._take_lock():
            self._tail = AuditTail(self._directory, self._load_marks() or "end", self._sampled_only)

    def read(self) -> Told:
        """What ended since the last time. Raises OSError."""
        self.open()
        if self._tail is None:
            return Told(Lines(b"", 0), [], False, [])
        wanted = "all" if self._models else self._wanted
        text, count, calls, more = self._tail.access(READ, lines=self._lines, wanted=wanted)
        if time.monotonic() - self._saved > SAVE_MARKS:
            self._save_marks(self._tail)
        models = [call for call in calls if "llm" in call] if self._models else []
        if wanted != self._wanted:
            calls = [call for call in calls if call.get("sampled")]
        return Told(Lines(text, count), [Call.of(call) for call in calls], more, models)

    def close(self) -> None:
        """Leaves the marks and the lock to a successor. Raises OSError when the marks cannot be written."""
        try:
            if self._tail is not None:
                self._save_marks(self._tail)
        finally:
            self._tail = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _take_lock(self) -> bool:
        """False while another control process still reads."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = os.open(self._directory / "telemetry.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _load_marks(self) -> Marks | None:
        try:
            saved = orjson.loads(_marks(self._directory).read_bytes())
            return {str(name): (int(at[0]), int(at[1]), int(at[2])) for name, at in saved.items()}
        except (OSError, ValueError, AttributeError, TypeError, LookupError):
            return None

    def _save_marks(self, tail: AuditTail) -> None:
        fresh = _marks(self._directory).with_suffix(".new")
        fresh.write_bytes(orjson.dumps(tail.marks()))
        fresh.replace(_marks(self._directory))
        self._saved = time.monotonic()


def forget(directory: Path) -> None:
    """Nobody reads any more: where reading stopped means nothing once calls go by unread."""
    _marks(directory).unlink(missing_ok=True)


def _marks(directory: Path) -> Path:
    return directory / "telemetry.marks"

"""Follows the audit log and adds every call of a model to the usage.

Rules:

1. The store says how far the log has been read, the log says what happened: usage can always be made anew from it. A
   store that has never seen this log reads it from its beginning.
2. An audit directory is known to the store by a random name in `usage.id` in it, so several gateways can share one
   store, and a log that is moved is not read twice.
3. Nothing is written for calls without a model but, now and then, how far they were read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

from pygate._core import AuditTail
from pygate.ai.usage import Conflict, Ledger, Place, add_up
from pygate.audit.tail import Marks

#: Records read at once.
READ = 2_000
#: Seconds after which marks are written although there was nothing to add.
SAVE_MARKS = 10.0


class Follower:
    """Call `read` again and again from one thread."""

    def __init__(self, ledger: Ledger, directory: Path) -> None:
        self.ledger = ledger
        self._directory = directory
        self._tail: AuditTail | None = None
        self._source = ""
        self._written: Marks = {}
        self._saved = 0.0
        self._damaged = 0

    @property
    def damaged(self) -> int:
        """Pieces of the log skipped because they were damaged."""
        return self._damaged

    def read(self) -> bool:
        """Adds what ended since the last time; true when there is more already. Raises `StoreError`, `OSError`."""
        try:
            return self._read()
        except Conflict:
            self._tail = None
            return True
        except BaseException:
            # What was taken from the tail is not in the store: it is read again.
            self._tail = None
            raise

    def catch_up(self, seconds: float) -> bool:
        """Reads until nothing is left; false when that takes longer. Raises as `read` does."""
        deadline = time.monotonic() + seconds
        while self.read():
            if time.monotonic() > deadline:
                return False
        return True

    def _read(self) -> bool:
        tail = self._tail or self._open()
        calls, more = tail.calls(READ)
        after = tail.marks()
        self._damaged = max(self._damaged, tail.damaged())
        sums = add_up(calls)
        if sums or (after != self._written and time.monotonic() - self._saved > SAVE_MARKS):
            self._add(after, sums)
        return more

    def _open(self) -> AuditTail:
        self._source = self._source or source_of(self._directory)
        self._written = self.ledger.marks(self._source)
        self._saved = time.monotonic()
        self._tail = AuditTail(self._directory, self._written or "begin")
        return self._tail

    def _add(self, after: Marks, sums: dict[Place, list[int]]) -> None:
        self.ledger.add(self._source, self._written, after, sums)
        self._written = dict(after)
        self._saved = time.monotonic()

    def close(self) -> None:
        """Reads no more; a rest that was read without anything to add is read again by the next."""
        tail, self._tail = self._tail, None
        if tail is not None and tail.marks() != self._written:
            with contextlib.suppress(Conflict):
                self.ledger.add(self._source, self._written, tail.marks(), {})


def source_of(directory: Path) -> str:
    """The random name of an audit directory; given to it when it has none. Raises `OSError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / "usage.id"
    fresh = directory / f".usage.id.{secrets.token_hex(4)}"
    if not path.exists():
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as file:
            file.write(f"{secrets.token_hex(8)}\n")
        try:
            # Fails when another process was faster: then its name holds.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(fresh)
        finally:
            fresh.unlink()
    return path.read_text().strip()

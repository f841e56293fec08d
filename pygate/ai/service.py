"""Keys and usage inside the control process.

Rules:

1. The store is used in one thread of its own, the audit log followed in another: never on the loop.
2. The snapshot is on disk before the first worker starts, and before a change is told to workers. When the store is
   out of reach, workers go on with the snapshot there is; the gateway starts with it, too.
3. A counter is restored from the usage before the first snapshot that needs it: at a start without shared memory of a
   predecessor all of them, later those of new limits.
4. A store that nobody configured is opened when somebody first asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from pygate.ai import snapshot
from pygate.ai.api import Answer, Operations
from pygate.ai.database import StoreError, open_database
from pygate.ai.follower import Follower
from pygate.ai.refusal import Refusal
from pygate.ai.settings import Settings
from pygate.ai.store import Store
from pygate.ai.usage import Ledger

log = logging.getLogger("pygate.ai")

#: Seconds between two looks at the version of the keys: somebody else may have changed them.
POLL = 0.3
#: Seconds between two looks at a log that had nothing new, and after something failed.
FOLLOW = 0.25
RETRY = 2.0
#: Seconds between two looks for old usage that can be kept in fewer rows.
CONDENSE = 3600.0
#: Seconds a start waits for the rest of the log to be added up, and an end.
CATCH_UP = 30.0
STOP = 5.0


class Budgets(Protocol):
    """What restores counters: shared memory."""

    def restore_budgets(self, entries: list[tuple[str, str, str, int]]) -> None:
        """Raises counters to what was used. RuntimeError: there is no room for one; ValueError: there is no such."""


class Ai:
    """The store of one gateway, its snapshot and its usage."""

    def __init__(self, settings: Settings, run_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.path = run_dir / snapshot.FILE
        #: Version of the snapshot on disk that this process knows; 0: none.
        self.version = 0
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "pygate-keys")
        self._operations: Operations | None = None
        self._budgets: Budgets | None = None
        #: Counters that need not be restored any more.
        self._counting: set[snapshot.Tuple] = set()
        self._ending = threading.Event()
        self._following: threading.Thread | None = None
        self._failing = ""
        #: The store has been read since this process began.
        self._read = False

    @property
    def active(self) -> bool:
        """Workers are to have keys."""
        return self.settings.wanted or self._operations is not None

    def prepare(self, budgets: Budgets, kept: bool) -> None:
        """Before workers start; blocks. `kept`: the counters in shared memory are those of a predecessor.

        Raises `StoreError` only for settings that cannot be right.
        """
        self._budgets = budgets
        before = snapshot.read(self.path)
        self.version = snapshot.version_of(before)
        if kept:
            self._counting = snapshot.counters(before)
        if not self.settings.wanted:
            return
        url = self.settings.resolved()
        open_database(url).close()
        try:
            self._renew()
        except (StoreError, OSError) as e:
            state = f"version {self.version} is used" if self.version else "there are none"
            log.error("keys cannot be read, %s: %s", state, e)
            if not self.version:
                # Workers must find a snapshot: one that knows nobody.
                snapshot.write(self.path, b'{"version":0,"keys":[]}')

    async def poll(self) -> bool:
        """Looks whether somebody changed the keys; true when there is a new snapshot."""
        if not self.active:
            return False
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._poll)

    async def answer(self, method: str, path: str, query: str, body: bytes) -> tuple[Answer, bool]:
        """Does what is asked (`pygate.ai.api`); true when there is a new snapshot because of it."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._answer(method, path, query, body)
        )

    def follow(self) -> None:
        """Begins to follow the audit log, once there is a store."""
        if self.active and self._following is None and not self._ending.is_set():
            self._following = threading.Thread(target=self._follow, name="pygate-usage", daemon=True)
            self._following.start()

    def close(self) -> None:
        """Adds up what there is and ends; takes `STOP` seconds at most, and those of a statement under way."""
        self._ending.set()
        if self._following is not None:
            self._following.join(STOP)
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._operations is not None:
            self._operations.store.close()

    # --- in the store's thread ---

    def _open(self) -> Operations:
        if self._operations is None:
            self._operations = Operations(Store.open(self.settings.resolved()))
        return self._operations

    def _poll(self) -> bool:
        try:
            changed = self._stale(self._open()) and self._renew()
        except (StoreError, OSError) as e:
            self._report(f"keys cannot be read, version {self.version} is used: {e}")
            return False
        self._report("")
        return changed

    def _answer(self, method: str, path: str, query: str, body: bytes) -> tuple[Answer, bool]:
        try:
            operations = self._open()
        except StoreError as e:
            return Answer(503, {"error": Refusal(str(e)).as_dict()}), False
        answer = operations.answer(method, path, query, body, int(self._clock()))
        try:
            return answer, self._stale(operations) and self._renew()
        except (StoreError, OSError) as e:
            self._report(f"a change of keys cannot be told to workers yet: {e}")
            return answer, False

    def _stale(self, operations: Operations) -> bool:
        return not self._read or operations.store.version() != self.version

    def _renew(self) -> bool:
        """Writes a snapshot of this moment; counters that it needs and nobody has are restored first."""
        operations = self._open()
        if not self._read:
            self._add_up(operations.store)
        now = int(self._clock())
        data, needed = snapshot.compose(operations.store, now)
        fresh = needed - self._counting
        if fresh and self._budgets is not None:
            try:
                self._budgets.restore_budgets(Ledger(operations.store.database).used(fresh, now))
            except (RuntimeError, ValueError) as e:
                # A revoked key must not stay for lack of room for a counter.
                log.error("some limits count from now on, not from the begin of their windows: %s", e)
        snapshot.write(self.path, data)
        # A limit that is taken away and comes back has counted nothing meanwhile.
        self._counting = needed
        self.version = snapshot.version_of(data)
        self._read = True
        return True

    def _add_up(self, store: Store) -> None:
        """What was used is known to the end of the log, before counters are restored."""
        follower = Follower(Ledger(store.database), self.settings.audit_dir)
        if not follower.catch_up(CATCH_UP):
            log.warning("the usage is not added up to the end of the audit log yet: budgets begin too low")
        follower.close()

    def _report(self, failure: str) -> None:
        """Says once that something fails, and that it works again."""
        if failure and failure != self._failing:
            log.error("%s", failure)
        elif self._failing and not failure:
            log.warning("keys can be read again")
        self._failing = failure

    # --- in the follower's thread ---

    def _follow(self) -> None:
        follower: Follower | None = None
        failing, condensed = "", time.monotonic()
        while True:
            # Looked at before reading: what was written before the end is added.
            ending = self._ending.is_set()
            more, pause = False, FOLLOW
            try:
                if follower is None:
                    # A connection of its own: a backlog must not hold up a change of keys.
                    database = open_database(self.settings.resolved())
                    follower = Follower(Ledger(database), self.settings.audit_dir)
                more = follower.read()
                if not more and time.monotonic() - condensed > CONDENSE:
                    follower.ledger.condense(int(self._clock()))
                    condensed = time.monotonic()
                if failing:
                    log.warning("usage is added up again")
                    failing = ""
            except Exception as e:  # the thread must outlive a store that is away
                if str(e) != failing:
                    failing = str(e)
                    log.error("usage is not added up for now: %s: %s", type(e).__name__, e)
                pause = RETRY
            if ending and (failing or not more):
                if follower is not None and not failing:
                    try:
                        follower.close()
                    except (StoreError, OSError) as e:
                        log.warning("the end of the audit log is read again next time: %s", e)
                return
            if not more:
                self._ending.wait(pause)

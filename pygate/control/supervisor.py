"""Keeps the workers running and moves them from one revision, listener set or program to the next.

Rules:

1. A worker owns its slot in shared memory and in the audit log until its process is gone; there are about twice as
   many slots as workers, so that a new generation can start while the old one finishes.
2. Nothing old is drained before something new is ready. A new generation that fails leaves the old one serving.
3. A worker that dies is started again: at once when it had been healthy, else after a delay that doubles.
4. A worker that does not answer for `HUNG` seconds is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

from pygate.control.channel import Message
from pygate.control.listeners import Listener
from pygate.control.worker_process import State, WorkerProcess

log = logging.getLogger("pygate.control")

WORKER_COMMAND = [sys.executable, "-m", "pygate.worker"]
START_TIMEOUT = 60.0
APPLY_TIMEOUT = 60.0
HEARTBEAT = 2.0
HUNG = 30.0
HEALTHY_AFTER = 3.0
BACKOFF_FIRST = 0.1
BACKOFF_MOST = 5.0
#: Time a worker may take beyond its drain timeout before it is killed.
DRAIN_GRACE = 5.0
#: Time all workers have to take keys, before it is said that some are late.
KEYS_TIMEOUT = 1.0


class WorkerError(Exception):
    """A revision that workers refuse, or workers that do not start."""


class Superseded(WorkerError):
    """Certificates of a revision that another one has taken over from."""


class Supervisor:
    """All workers of one gateway."""

    def __init__(self, shared: Path, command: list[str] | None = None) -> None:
        self.workers: set[WorkerProcess] = set()
        self.generation = 0
        self.count = 0
        self.restarts = 0
        self.drain_timeout = 30.0
        #: Slots of the shared memory file.
        self.slots = 0
        self.listeners: dict[str, Listener] = {}
        #: Slots that a predecessor's workers still hold.
        self.foreign_slots: set[int] = set()
        #: Called with a slot that no process owns any more, before the next one does.
        self.released: Callable[[int], None] = lambda slot: None
        self._shared = shared
        self._command = command or WORKER_COMMAND
        self._revision: tuple[str, Path] | None = None
        self._failures: dict[int, int] = {}
        self._waiting: dict[WorkerProcess, asyncio.Future[None]] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        #: File with the certificates workers use; see `pygate.control.certificates`.
        self.material: Path | None = None
        #: File with the virtual keys workers know, if they are to know any; see `pygate.ai`.
        self.keys: Path | None = None
        #: One at a time is put in force.
        self._publishing = asyncio.Lock()
        #: Slots whose worker is being started, and those that wait for their next attempt.
        self._starting: set[int] = set()
        self._restarting: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> list[WorkerProcess]:
        """Workers of the generation in force that are not on their way out."""
        live = (State.STARTING, State.READY)
        return sorted((w for w in self.workers if w.generation == self.generation and w.state in live), key=_slot)

    @property
    def ready(self) -> bool:
        return any(w.state is State.READY for w in self.workers)

    def adopt(self, worker: WorkerProcess) -> None:
        """Counts an orphan as part of the generation before the first."""
        self.workers.add(worker)

    async def roll(
        self, revision: str, directory: Path, listeners: dict[str, Listener], count: int, material: Path | None = None
    ) -> None:
        """Starts a new generation and, once it is ready, drains what was there before.

        Raises `WorkerError` – with the old generation untouched – when the new one does not come up.
        """
        async with self._publishing:
            kept, self.material = self.material, material or self.material
            try:
                await self._roll(revision, directory, listeners, count)
            except WorkerError:
                self.material = kept
                raise

    async def _roll(self, revision: str, directory: Path, listeners: dict[str, Listener], count: int) -> None:
        before = (self._revision, self.listeners, self.count, self.generation)
        old = {w for w in self.workers if w.state in (State.STARTING, State.READY)}
        self._revision, self.listeners, self.count = (revision, directory), listeners, count
        self.generation += 1
        try:
            if not self._free_slots() and old:
                # No room beside the old generation (an upgrade was cut off half-way): make some.
                worker = old.pop()
                self.drain_one(worker)
                await self._until(lambda: bool(self._free_slots()), self.drain_timeout + DRAIN_GRACE + 1)
            slots = self._free_slots()[:count]
            if not slots:
                raise WorkerError("no worker slot is free: an earlier generation still drains; try again later")
            await self._start(slots)
        except (WorkerError, OSError) as e:
            failed = [w for w in self.workers if w.generation == self.generation and w.state is not State.GONE]
            self._revision, self.listeners, self.count, self.generation = before
            for worker in failed:
                worker.generation = -1
                worker.kill()
            await self._until(lambda: not any(w.generation == -1 for w in self.workers), 10)
            raise e if isinstance(e, WorkerError) else WorkerError(f"a worker cannot be started: {e}") from e
        for worker in old:
            self.drain_one(worker)

    async def publish(self, revision: str, directory: Path, material: Path | None = None) -> None:
        """Puts a revision in force in every worker; raises `WorkerError` with the old one still in force.

        One worker tries it first. One of the others that then refuses or hangs is replaced.
        """
        async with self._publishing:
            before, self.material = self.material, material or self.material
            try:
                await self._publish(revision, directory)
            except WorkerError:
                self.material = before
                raise

    async def certificates(self, material: Path, revision: str) -> None:
        """Puts certificates in force in every worker; raises `WorkerError` with the old ones still in force.

        They were made for `revision`: raises `Superseded` when that is not in force any more.
        """
        async with self._publishing:
            if self._revision is None or self._revision[0] != revision:
                raise Superseded(f"revision {revision} is no longer in force")
            if material == self.material:
                return
            before, self.material = self.material, material
            try:
                await self._publish(*self._revision, alone=True)
            except WorkerError:
                self.material = before
                raise

    async def _publish(self, revision: str, directory: Path, alone: bool = False) -> None:
        """`alone`: of this revision, only the certificates are new."""
        targets = [w for w in self.current if w.state is State.READY]
        before, self._revision = self._revision, (revision, directory)
        try:
            if targets:
                await self._apply(targets[0], alone)
        except WorkerError:
            self._revision = before
            raise
        results = await asyncio.gather(*(self._apply(w, alone) for w in targets[1:]), return_exceptions=True)
        for worker, result in zip(targets[1:], results, strict=True):
            if isinstance(result, BaseException) and worker.state is not State.GONE:
                log.error("worker %d (process %d) is replaced: %s", worker.slot, worker.pid, result)
                worker.kill()
        # Workers that were just starting may have been given the revision, or the certificates, before.
        for worker in self.current:
            if worker not in targets and (alone or worker.revision != revision):
                worker.send("publish", self._order(alone))

    def _order(self, alone: bool = False) -> Message:
        """The message that puts in force what is to be."""
        assert self._revision is not None
        revision, directory = self._revision
        return {
            "revision": revision,
            "path": str(directory),
            "material": str(self.material or ""),
            "keys": str(self.keys or ""),
            "alone": alone,
        }

    async def tell_keys(self, path: Path, version: int) -> int:
        """Tells every worker of the keys in `path`; returns how many had not taken `version` after `KEYS_TIMEOUT`.

        A worker that is starting reads the file before it listens and is not waited for.
        """
        self.keys = path
        told = list(self.workers)
        for worker in told:
            worker.send("keys", {"path": str(path)})

        def late() -> list[WorkerProcess]:
            return [w for w in told if w.state in (State.READY, State.DRAINING) and w.keys < version]

        await self._until(lambda: not late(), KEYS_TIMEOUT)
        for worker in late():
            log.error("worker %d (process %d) has not taken the keys of version %d", worker.slot, worker.pid, version)
        return len(late())

    def drain_one(self, worker: WorkerProcess) -> None:
        """Drains a worker, and kills it when it takes too long."""
        worker.drain(self.drain_timeout)
        self._spawn_task(self._kill_late(worker))

    async def stop(self) -> None:
        """Drains everything; returns when every worker is gone."""
        self._stopping = True
        self._changed.set()
        for worker in list(self.workers):
            self.drain_one(worker)
        await self._until(lambda: not self.workers, self.drain_timeout + 2 * DRAIN_GRACE)
        for task in self._tasks:
            task.cancel()

    async def stop_now(self) -> None:
        """Kills everything; returns when every worker is gone."""
        self._stopping = True
        for worker in list(self.workers):
            worker.kill()
        await self._until(lambda: not self.workers, 10)
        for task in self._tasks:
            task.cancel()

    async def watch(self) -> None:
        """Asks every worker for a sign of life; runs until cancelled."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            self._fill()
            now = time.monotonic()
            for worker in list(self.workers):
                if worker.state is State.READY and now - worker.heard > HUNG:
                    log.error("worker %d (process %d) has hung for %.0f s: killed", worker.slot, worker.pid, HUNG)
                    worker.kill()
                elif worker.state is State.READY:
                    worker.send("stats")
                    if now - worker.started > HEALTHY_AFTER:
                        self._failures.pop(worker.slot, None)

    async def _start(self, slots: list[int]) -> None:
        """Starts workers in these slots and waits until all are ready."""
        self._starting.update(slots)
        started: list[WorkerProcess] = []
        try:
            for slot in slots:
                started.append(await self._spawn(slot))
            async with asyncio.timeout(START_TIMEOUT):
                await asyncio.gather(*(self._waiting[worker] for worker in started))
        except TimeoutError:
            late = ", ".join(str(w.slot) for w in started if w.state is State.STARTING)
            raise WorkerError(f"worker {late} was not ready within {START_TIMEOUT:.0f} s") from None
        finally:
            self._starting.difference_update(slots)
            for worker in started:
                if (waiting := self._waiting.pop(worker, None)) is not None and not waiting.done():
                    waiting.cancel()

    async def _spawn(self, slot: int) -> WorkerProcess:
        assert self._revision is not None
        self.released(slot)
        worker = await WorkerProcess.spawn(
            self._command, slot, self.generation, self._shared, self.listeners, self.heard
        )
        self.workers.add(worker)
        self._waiting[worker] = asyncio.get_running_loop().create_future()
        worker.send("publish", self._order())
        return worker

    async def _apply(self, worker: WorkerProcess, alone: bool) -> None:
        done = self._waiting[worker] = asyncio.get_running_loop().create_future()
        worker.send("publish", self._order(alone))
        try:
            async with asyncio.timeout(APPLY_TIMEOUT):
                await done
        except TimeoutError:
            raise WorkerError(f"worker {worker.slot} did not apply it within {APPLY_TIMEOUT:.0f} s") from None
        finally:
            self._waiting.pop(worker, None)

    def heard(self, worker: WorkerProcess, kind: str, body: Message) -> None:
        """What a worker said, or that it is gone."""
        waiting = self._waiting.get(worker)
        if waiting is not None and not waiting.done():
            wanted = self._revision[0] if self._revision else ""
            if kind in ("ready", "applied") and worker.revision == wanted:
                waiting.set_result(None)
            elif kind == "refused":
                waiting.set_exception(WorkerError(f"worker {worker.slot}: {body.get('error', 'refused')}"))
            elif kind == "gone":
                waiting.set_exception(WorkerError(f"worker {worker.slot} ended while starting: {worker.exit}"))
        elif kind == "refused":
            log.error("worker %d (process %d) refuses a revision: %s", worker.slot, worker.pid, body.get("error"))
            worker.kill()
        if kind == "gone":
            self._gone(worker)
        self._changed.set()

    def _gone(self, worker: WorkerProcess) -> None:
        self.workers.discard(worker)
        self.released(worker.slot)
        if self._stopping or worker.draining or worker.generation != self.generation:
            return
        if worker.slot in self._starting:
            return  # `_start` reports it
        self.restarts += 1
        if time.monotonic() - worker.started > HEALTHY_AFTER:
            self._failures.pop(worker.slot, None)
        log.error("worker %d (process %d) died: %s", worker.slot, worker.pid, worker.exit)
        self._restart_later(worker.slot)

    def _restart_later(self, slot: int) -> None:
        failures = self._failures.get(slot, 0)
        self._failures[slot] = failures + 1
        delay = min(BACKOFF_FIRST * 2 ** (failures - 1), BACKOFF_MOST) if failures else 0.0
        log.warning("worker %d is started again in %.1f s", slot, delay)
        self._restarting.add(slot)
        self._spawn_task(self._restart(slot, self.generation, delay))

    async def _restart(self, slot: int, generation: int, delay: float) -> None:
        try:
            await asyncio.sleep(delay)
            if self._stopping or generation != self.generation or slot not in self._free_slots():
                return
            await self._start([slot])
            log.info("worker %d is back", slot)
        except (WorkerError, OSError) as e:
            log.error("worker %d does not start: %s", slot, e)
            for worker in [w for w in self.workers if w.slot == slot and w.generation == generation]:
                worker.generation = -1
                worker.kill()
            if generation == self.generation and not self._stopping:
                self._restart_later(slot)
                return
        self._restarting.discard(slot)

    def _fill(self) -> None:
        """Starts what a generation still lacks because its slots were taken when it began."""
        missing = self.count - len(self.current) - len(self._restarting) - len(self._starting)
        for slot in self._free_slots()[: max(0, missing)]:
            if slot not in self._restarting:
                self._restart_later(slot)

    async def _kill_late(self, worker: WorkerProcess) -> None:
        await asyncio.sleep(self.drain_timeout + DRAIN_GRACE)
        if worker.state is not State.GONE:
            log.error("worker %d (process %d) did not drain in time: killed", worker.slot, worker.pid)
            worker.kill()

    def _free_slots(self) -> list[int]:
        taken = {w.slot for w in self.workers} | self.foreign_slots
        return [slot for slot in range(self.slots) if slot not in taken]

    async def _until(self, condition: Callable[[], bool], timeout: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()

    def _spawn_task(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _slot(worker: WorkerProcess) -> int:
    return worker.slot

"""The control process: puts listeners, configuration, shared memory and workers together and keeps them so.

Starting, taking over from a predecessor (upgrade) and finding orphans of a crashed predecessor are one path: gather
the listeners there are, open the missing ones, start a new generation of workers in free slots, and drain whatever
served before once the new generation is ready.

Signals: SIGTERM, SIGINT drain and stop (SIGINT again: at once); SIGHUP reloads; SIGUSR2 upgrades.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pygate import _core
from pygate.ai.database import StoreError
from pygate.ai.service import Ai
from pygate.ai.settings import Settings as AiSettings
from pygate.config import Loaded, load
from pygate.config.problem import ConfigError, Style, render
from pygate.config.units import seconds
from pygate.control import certificates, duties, watch
from pygate.control.channel import Channel
from pygate.control.handover import HandoverError, Inheritance, start_successor
from pygate.control.listeners import Listener, ListenError, close, from_systemd, open_all, shown
from pygate.control.notify import Notifier
from pygate.control.rundir import RunDir
from pygate.control.supervisor import Supervisor, WorkerError
from pygate.control.worker_process import WorkerProcess
from pygate.guard.compile import Unavailable

if TYPE_CHECKING:
    from pygate.control.certificates.keeper import Keeper
    from pygate.telemetry import Telemetry

log = logging.getLogger("pygate.control")

#: Name of the admin listener among the inherited ones; no entrypoint can be called so.
ADMIN = "@admin"

#: The reason of a reload that nobody asked for. Only such a one stops at an unchanged revision: who asks for a reload
#: may have changed a secret behind a reference.
FILES = "files changed"


class StartError(Exception):
    """The gateway cannot start; the message says why and what to do."""


@dataclass
class Options:
    """How `pygate run` was called."""

    config: Path
    run_dir: Path
    #: Arguments that start a successor (`run -c …`).
    arguments: list[str]
    #: How a worker is started, without its own arguments.
    worker_command: list[str] | None = None
    watch: bool = True
    #: A process that lives as long as the gateway (the demo's upstream).
    companion: list[str] | None = None
    on_serving: Callable[[Control], None] | None = None


@dataclass
class Reload:
    """How the last reload went."""

    ok: bool = True
    at: float = field(default_factory=time.time)
    message: str = "started"
    problems: list[dict[str, object]] = field(default_factory=list)


class Control:
    """One control process, from start to end."""

    def __init__(self, options: Options, loaded: Loaded) -> None:
        """`loaded` must be free of problems. Raises `StartError`, `RunDirError`, `ListenError`."""
        self.options = options
        self.loaded = loaded
        #: What was read last, good or bad.
        self._seen = loaded
        self.last_reload = Reload()
        self.reloads = {"ok": 0, "failed": 0}
        self.started = time.time()
        self.serving = False
        self.stopping = False
        self.admin: Listener | None = None
        #: There while their duties run.
        self.telemetry: Telemetry | None = None
        self.certificates: Keeper | None = None
        self.ai: Ai
        self._notifier = Notifier(os.environ)
        self._inheritance = Inheritance.take(os.environ)
        self._run = RunDir(options.run_dir, self._inheritance.lock if self._inheritance else None)
        self._systemd = from_systemd(os.environ)
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._companion: subprocess.Popen[bytes] | None = None
        self._successor: int | None = None
        self._upgrading = False

    @property
    def successor(self) -> int | None:
        """Who has taken over, if somebody outside still waits for this very process: a shell, a container."""
        waited_for = self._inheritance is None and not self._notifier.environment()
        return self._successor if waited_for else None

    @property
    def run_dir(self) -> Path:
        return self._run.path

    @property
    def listening(self) -> dict[str, str]:
        """Addresses as bound, by entrypoint."""
        return {name: shown(item.sock) for name, item in self.supervisor.listeners.items()}

    async def run(self) -> int:
        """Serves until told to stop; returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._background(self._on_hangup()))
        loop.add_signal_handler(signal.SIGUSR2, lambda: self._background(self._upgrade()))
        if not await self._started():
            return 1
        work = [asyncio.create_task(duties.perform(module, self)) for module in duties.DUTIES]
        work.append(asyncio.create_task(self.supervisor.watch()))
        if self.options.watch:
            work.append(asyncio.create_task(self._watch()))
        if self._notifier.watchdog:
            work.append(asyncio.create_task(self._sign_of_life(self._notifier.watchdog)))
        self._run.write_pid()
        self.serving = True
        await self._say_ready()
        if self.options.on_serving is not None:
            self.options.on_serving(self)
        await self._stop.wait()
        self.stopping = True
        if self._successor is None:
            self._notifier.stopping()
        await self._end(work)
        return 0

    def stop(self) -> None:
        """Drain and end; a second call ends at once."""
        if self._stop.is_set():
            log.warning("stopping at once")
            self._background(self.supervisor.stop_now())
        self._stop.set()

    async def changed_from(self, revision: str) -> Loaded:
        """The configuration in force, as soon as it is another than `revision`."""
        while self.loaded.revision == revision:
            await self._changed.wait()
        return self.loaded

    async def tell_keys(self) -> int:
        """Has every worker take the keys in the snapshot; returns how many did not in time."""
        return await self.supervisor.tell_keys(self.ai.path, self.ai.version)

    async def reload(self, why: str) -> Reload:
        """Reads the configuration again and puts it in force if it is good; else nothing changes."""
        async with self._reloading:
            self._notifier.reloading()
            try:
                self.last_reload = await self._reload(why)
            except (ListenError, WorkerError, Unavailable, OSError) as e:
                self.last_reload = Reload(False, message=str(e))
            self.reloads["ok" if self.last_reload.ok else "failed"] += 1
            (log.info if self.last_reload.ok else log.error)("reload (%s): %s", why, self.last_reload.message)
            if not self.last_reload.ok:
                log.error("revision %s stays in force", self.loaded.revision)
            self._notifier.ready(f"revision {self.loaded.revision}; last reload: {self.last_reload.message}")
            return self.last_reload

    async def _started(self) -> bool:
        """Starts; false when told to stop before it was done."""
        starting = asyncio.create_task(self._start())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        log.warning("stopped while starting")
        await self.supervisor.stop_now()
        return False

    async def _start(self) -> None:
        inheritance = self._inheritance
        self.supervisor = Supervisor(self._run.shared, self.options.worker_command)
        self.supervisor.drain_timeout = seconds(self.loaded.setting("workers", "drain_timeout"))
        have: dict[str, Listener] = {}
        orphans: list[WorkerProcess] = []
        if inheritance is not None:
            have = inheritance.listeners
        else:
            orphans, have = await self._adopt_orphans()
        have |= self._systemd
        kept = self._open_shared(keep=bool(inheritance or orphans))
        self.supervisor.slots = self.shared.workers
        self.supervisor.released = self.shared.clear_worker
        if inheritance is not None:
            self.supervisor.foreign_slots = inheritance.slots
        self.ai = Ai(AiSettings.of(self.loaded), self._run.path)
        for orphan in orphans:
            self.supervisor.adopt(orphan)
        opened = open_all(self._wanted(self.loaded) | self._wanted_admin(self.loaded), have)
        for name, listener in have.items():
            if all(listener.sock is not other.sock for other in opened.values()):
                log.warning("listener %s (%s) is no longer wanted: closed", name, shown(listener.sock))
                close(listener)
        self.admin = opened.pop(ADMIN, None)
        if self.options.companion:
            self._companion = subprocess.Popen(
                [*self.options.companion, str(self._run.lock_file)], stdin=subprocess.DEVNULL, process_group=0
            )
        try:
            # Compiling the database of new rules takes up to seconds.
            directory = await asyncio.to_thread(self._run.store, self.loaded)
            material = await asyncio.to_thread(certificates.prepare, self.loaded, self._run.path)
            await asyncio.to_thread(self.ai.prepare, self.shared, kept)
        except StoreError as e:
            raise StartError(str(e)) from None
        except Unavailable as e:
            raise StartError(f"guard.engine: {e}") from None
        except ConfigError as e:
            raise StartError("; ".join(f"{p.path}: {p.message}" for p in e.problems)) from None
        self.supervisor.keys = self.ai.path if self.ai.active else None
        try:
            await self.supervisor.roll(self.loaded.revision, directory, opened, self._count(self.loaded), material)
        except WorkerError as e:
            # Orphans are left as they were found: they serve on.
            raise StartError(f"the workers do not start: {e}") from None

    def _open_shared(self, keep: bool) -> bool:
        """Opens what a predecessor left when it is to be kept and fits, else makes it anew; whether it was kept."""
        if keep:
            try:
                self.shared = _core.Shared.open(self._run.shared)
                return True
            except OSError as e:
                log.warning("shared memory is made anew: %s", e)
        slots = max(8, 2 * self._count(self.loaded))
        self.shared = _core.Shared.create(self._run.shared, slots)
        return False

    async def _adopt_orphans(self) -> tuple[list[WorkerProcess], dict[str, Listener]]:
        """Workers that outlived their control process, and the listeners they still hold."""
        orphans: list[WorkerProcess] = []
        listeners: dict[str, Listener] = {}
        for pid, path in self._run.worker_sockets().items():
            adopted = await WorkerProcess.adopt(path, 0, self.supervisor.heard)
            if adopted is None:
                path.unlink(missing_ok=True)
                continue
            worker, sockets = adopted
            log.warning("worker %d (process %d) outlived its control process: adopted", worker.slot, pid)
            orphans.append(worker)
            for name, sock in sockets.items():
                if name in listeners:
                    sock.close()
                else:
                    listeners[name] = Listener(shown(sock), sock)
        return orphans, listeners

    def _wanted(self, loaded: Loaded) -> dict[str, str]:
        return {name: str(item["address"]) for name, item in loaded.value.get("entrypoints", {}).items()}

    def _wanted_admin(self, loaded: Loaded) -> dict[str, str]:
        address = str(loaded.setting("admin", "address"))
        return {ADMIN: address} if address else {}

    def _count(self, loaded: Loaded) -> int:
        return int(loaded.setting("workers", "count")) or len(os.sched_getaffinity(0))

    async def _say_ready(self) -> None:
        self._notifier.ready(f"serving revision {self.loaded.revision}")
        _tell(self.loaded)
        where = ", ".join(f"{name} on {address}" for name, address in self.listening.items()) or "no entrypoint"
        log.info("serving revision %s with %d worker(s): %s", self.loaded.revision, self.supervisor.count, where)
        if self._inheritance is not None:
            supervisor = self.supervisor
            # The predecessor's end, seen as the end of the channel, frees its slots.
            channel = await Channel.attach(
                self._inheritance.channel, lambda _k, _b: None, lambda: supervisor.foreign_slots.clear()
            )
            channel.send("ready", {"pid": os.getpid()})

    async def _reload(self, why: str) -> Reload:
        loaded = self._seen = await asyncio.to_thread(load, self.options.config)
        material: Path | None = None
        if not loaded.problems:
            try:
                material = await asyncio.to_thread(certificates.prepare, loaded, self._run.path)
            except ConfigError as e:
                loaded.problems = list(e.problems)
        if loaded.problems:
            style = Style(colour=sys.stderr.isatty())
            for problem in loaded.problems:
                sys.stderr.write(render(problem, loaded.texts, style) + "\n\n")
            count = len(loaded.problems)
            message = f"{count} problem{'s' if count > 1 else ''} in the configuration; nothing was changed"
            return Reload(False, message=message, problems=[p.as_dict() for p in loaded.problems])
        if loaded.revision == self.loaded.revision and why == FILES:
            return Reload(message=f"revision {loaded.revision} is unchanged")
        notes = []
        if loaded.setting("admin", "address") != self.loaded.setting("admin", "address"):
            notes.append("admin.address changes with the next start or upgrade")
        wanted, count = self._wanted(loaded), self._count(loaded)
        supervisor = self.supervisor
        same = wanted == {name: item.text or wanted.get(name) for name, item in supervisor.listeners.items()}
        directory = await asyncio.to_thread(self._run.store, loaded)
        if same and count == supervisor.count:
            await supervisor.publish(loaded.revision, directory, material)
        else:
            await self._roll(loaded, directory, wanted, count, material)
        supervisor.drain_timeout = seconds(loaded.setting("workers", "drain_timeout"))
        self.loaded = loaded
        self._changed.set()
        self._changed.clear()
        self._run.prune({loaded.revision} | {w.revision for w in supervisor.workers})
        _tell(loaded)
        return Reload(message="; ".join([f"revision {loaded.revision} is in force", *notes]))

    async def _roll(
        self, loaded: Loaded, directory: Path, wanted: dict[str, str], count: int, material: Path | None
    ) -> None:
        """Other listeners or another number of workers: a new generation takes over."""
        supervisor = self.supervisor
        before = dict(supervisor.listeners)
        opened = open_all(wanted, before)
        try:
            await supervisor.roll(loaded.revision, directory, opened, count, material)
        except WorkerError:
            for listener in opened.values():
                if all(listener.sock is not old.sock for old in before.values()):
                    close(listener)
            raise
        for listener in before.values():
            if all(listener.sock is not new.sock for new in opened.values()):
                close(listener)

    async def _on_hangup(self) -> None:
        if self.serving:
            await self.reload("SIGHUP")

    async def _watch(self) -> None:
        while not self._stop.is_set():
            await watch.changed(self._seen)
            await self.reload(FILES)

    async def _sign_of_life(self, every: float) -> None:
        while True:
            self._notifier.alive()
            await asyncio.sleep(every)

    async def _upgrade(self) -> None:
        if self._upgrading or self.stopping or not self.serving:
            log.warning("no upgrade now: a start, stop or upgrade is under way")
            return
        self._upgrading = True
        async with self._reloading:
            await self._hand_over()
        self._upgrading = False

    async def _hand_over(self) -> None:
        log.info("upgrade: starting a successor")
        listeners = dict(self.supervisor.listeners)
        if self.admin is not None:
            listeners[ADMIN] = self.admin
        slots = {w.slot for w in self.supervisor.workers}
        try:
            successor = await start_successor(
                self.options.arguments, self._run.lock, listeners, slots, self._notifier.environment()
            )
        except (HandoverError, OSError) as e:
            log.error("upgrade failed, process %d goes on: %s", os.getpid(), e)
            await self._stop_strays()
            self._run.note_upgrade(f"the successor failed, process {os.getpid()} goes on: {e}")
            return
        log.info("upgrade: process %d has taken over", successor.pid)
        self._successor = successor.pid
        self._notifier.handed_over(successor.pid)
        self._stop.set()

    async def _stop_strays(self) -> None:
        """Workers that a failed successor left behind."""
        ours = {w.pid for w in self.supervisor.workers}
        for pid, path in self._run.worker_sockets().items():
            if pid not in ours and (adopted := await WorkerProcess.adopt(path, -1, lambda *_: None)):
                worker, sockets = adopted
                for sock in sockets.values():
                    sock.close()
                worker.kill()
                path.unlink(missing_ok=True)

    async def _end(self, work: list[asyncio.Task[None]]) -> None:
        handed_over = self._successor is not None
        if handed_over:
            log.info("process %d drains its workers", os.getpid())
            await self._cancel(work)
        else:
            log.info("draining for up to %.0f s", self.supervisor.drain_timeout)
        draining = asyncio.ensure_future(self.supervisor.stop())
        # From here on nobody may queue up: workers close their copies as they begin to drain.
        for listener in self.supervisor.listeners.values():
            close(listener, unlink=not handed_over)
        await draining
        await self._cancel(work)
        if self.admin is not None:
            close(self.admin, unlink=not handed_over)
        if not handed_over:
            if self._companion is not None:
                self._companion.terminate()
                self._companion.wait()
            self._run.remove_pid()
            log.info("stopped")

    async def _cancel(self, work: list[asyncio.Task[None]]) -> None:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    def _background(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _tell(loaded: Loaded) -> None:
    """Logs what stops nobody in a configuration that is in force from now on."""
    for warning in loaded.warnings:
        log.warning("%s: %s", warning.place or warning.path, warning.message)


__all__ = ["ADMIN", "Control", "Options", "Reload", "StartError"]

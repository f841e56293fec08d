"""Keeps the certificates in force current: gathers again when something has changed, stages, hands over to workers.

Rules:

1. One gathering at a time, off the loop; what it gives is handed over only if it differs from what is in force.
2. What has become unreadable does not take away what works: the entry in force stays, and an error says what is wrong.
   A certificate that is valid is not replaced by one that has expired.
3. Directories are watched, not files: editors rename, and Kubernetes swaps a symbolic link above the files. Events only
   prompt a look at the files' states, so noise costs a few `stat` calls.
4. Everything is told once, not at every look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from watchfiles import awatch

from pygate.config.problem import Problem
from pygate.control.certificates import compiled
from pygate.control.certificates.challenges import Board
from pygate.control.certificates.gather import Entry, Gathered, gather, stamp
from pygate.control.certificates.renewal import Renewer
from pygate.control.certificates.staging import stage
from pygate.control.certificates.stapling import Stapler
from pygate.control.supervisor import Superseded, WorkerError
from pygate.telemetry.families import Family, Point

if TYPE_CHECKING:
    from pygate.config import Loaded
    from pygate.control.process import Control

log = logging.getLogger("pygate.control.certificates")

#: Changes within this time, in milliseconds, are one change.
DEBOUNCE = 300
STEP = 50
#: Where notifications do not reach it is looked this often, in milliseconds.
LOOK_EVERY = 5000
#: Seconds given to whoever writes certificate and key one after the other, before what is there is called wrong.
SETTLE = 1.0
#: Times it is gathered for another configuration than the one in force, and the longest wait for that to be over.
SUPERSEDED = 30
SUPERSEDED_PAUSE = 2.0
#: Seconds between two looks for work with authorities and responders.
WORK_EVERY = 30.0


class Keeper:
    """The certificates of one gateway."""

    def __init__(self, control: Control) -> None:
        self.control = control
        #: What was read last, and what of it is in force.
        self.seen = Gathered()
        self.gathered = self.seen
        #: What workers have.
        self.path: Path | None = None
        #: Changes put in force, and changes that were not good.
        self.counts = {"ok": 0, "failed": 0}
        self.board = Board(control.run_dir)
        self.renewer = Renewer(self.board, self.refresh)
        self.stapler = Stapler(control.run_dir)
        self._gathering = asyncio.Lock()
        self._told: set[str] = set()
        #: What was read last is not in force: it is tried again.
        self._behind = False
        self._work = asyncio.Event()

    async def refresh(self, why: str) -> bool:
        """Gathers, and puts what has changed in force; returns whether workers have what there is to have now.

        A certificate that is broken on disk does not make that false: the one before it is part of what there is.
        """
        async with self._gathering:
            for _ in range(SUPERSEDED):
                loaded = self.control.loaded
                try:
                    return await self._refresh(loaded, why)
                except Superseded:
                    # Another configuration is being put in force, or was tried in vain.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(SUPERSEDED_PAUSE):
                            await self.control.changed_from(loaded.revision)
            self._behind = True
            return False

    async def _refresh(self, loaded: Loaded, why: str) -> bool:
        fresh = await self._gather(loaded)
        if fresh.failed and self.path is not None:
            await asyncio.sleep(SETTLE)
            fresh = await self._gather(loaded)
        good = self._keep_old(fresh)
        material = fresh.material()
        wrong = await asyncio.to_thread(compiled, loaded.json, material)
        fresh.problems += wrong
        in_force = not wrong and await self._hand_over(loaded, material, why, len(fresh.entries))
        self._tell(loaded, fresh)
        self.seen = fresh
        if in_force:
            self.gathered = fresh
        self._behind = not in_force
        if not (good and in_force):
            self.counts["failed"] += 1
        self._work.set()
        return in_force

    async def follow(self) -> None:
        """Gathers at the start and whenever another configuration is in force."""
        loaded = self.control.loaded
        await self.refresh("start")
        while True:
            loaded = await self.control.changed_from(loaded.revision)
            await self.refresh(f"revision {loaded.revision}")

    async def watch(self) -> None:
        """Gathers when a file has changed."""
        while True:
            if await self._changed(self.seen):
                await self.refresh("files have changed")

    async def work(self) -> None:
        """Lets authorities and responders be asked when it is time."""
        try:
            while True:
                self._work.clear()
                loaded = self.control.loaded
                self.renewer.look(loaded.value, loaded.base)
                if await self.stapler.look(self.gathered, loaded.value):
                    await self.refresh("an OCSP response is new")
                pause = WORK_EVERY
                if (expiry := self.gathered.next_expiry()) is not None:
                    pause = min(pause, max(0.5, expiry - _now()))
                try:
                    async with asyncio.timeout(pause):
                        await self._work.wait()
                except TimeoutError:
                    if self._behind:
                        await self.refresh("tried again")
                    elif expiry is not None and expiry <= _now():
                        await self.refresh("an OCSP response has expired")
        finally:
            await self.renewer.close()

    def families(self) -> list[Family]:
        """Numbers for telemetry."""
        ends: dict[str, float] = {}
        for entry in self.gathered.entries:
            ends[entry.name] = min(entry.facts.not_after, ends.get(entry.name, float("inf")))
        expiry = Family("pygate.certificate.expiry", "Time until a certificate expires.", "s", "gauge")
        expiry.points = [Point({"pygate.certificate": n}, round(end - _now())) for n, end in sorted(ends.items())]
        told = (
            ("pygate.certificate.updates", "Changes of certificates, by result.", "{update}", self.counts),
            ("pygate.acme.orders", "Certificates ordered by ACME, by result.", "{order}", self.renewer.counts),
            ("pygate.ocsp.fetches", "OCSP responses asked for, by result.", "{fetch}", self.stapler.counts),
        )
        families = [Family(name, text, unit, "counter") for name, text, unit, _ in told]
        for family, (*_, counts) in zip(families, told, strict=True):
            family.points = [Point({"pygate.result": result}, count) for result, count in counts.items()]
        return [expiry, *families]

    async def _gather(self, loaded: Loaded) -> Gathered:
        return await asyncio.to_thread(gather, loaded.value, loaded.base, self.control.run_dir)

    async def _hand_over(self, loaded: Loaded, material: bytes, why: str, count: int) -> bool:
        try:
            path = await asyncio.to_thread(stage, self.control.run_dir, material, self.path)
            if path == self.path:
                return True
            await self.control.supervisor.certificates(path, loaded.revision)
        except Superseded:
            raise
        except (WorkerError, OSError) as e:
            log.error("certificates (%s): the workers do not take them, the old stay: %s", why, e)
            return False
        self.path = path
        self.counts["ok"] += 1
        log.info("certificates (%s): %d in force", why, count)
        return True

    def _keep_old(self, fresh: Gathered) -> bool:
        """Fills in what is in force for what cannot be used any more; returns whether there was no need to."""
        have = {(e.name, e.source) for e in fresh.entries}
        for old in self.gathered.entries:
            key = (old.name, old.source)
            if key not in have and (key in fresh.failed or (old.name, "") in fresh.failed):
                fresh.entries.append(old)
        before = {(e.name, e.source): e for e in self.gathered.entries}
        good = not fresh.failed
        for position, entry in enumerate(fresh.entries):
            known = before.get((entry.name, entry.source))
            if known is not None and entry.expired and not known.expired:
                fresh.entries[position] = known
                message = f"`{entry.source}` was replaced by a certificate that has expired; the old one stays"
                fresh.problems.append(Problem(entry.path, message))
                good = False
        fresh.entries.sort(key=_order)
        for written, text in self.gathered.roots.items():
            if ("", written) in fresh.failed:
                fresh.roots.setdefault(written, text)
        return good

    def _tell(self, loaded: Loaded, fresh: Gathered) -> None:
        told = set()
        kinds: list[tuple[int, Sequence[Problem]]] = [
            (logging.ERROR, fresh.problems),
            (logging.WARNING, fresh.warnings),
        ]
        for level, problems in kinds:
            for problem in problems:
                loaded.locate(problem)
                text = f"{problem.place or problem.path}: {problem.message}"
                told.add(text)
                if text not in self._told:
                    stays = "; what is in force stays" if level == logging.ERROR else ""
                    log.log(level, "%s (%s)%s", text, problem.path, stays)
        for name in fresh.waiting:
            told.add(f"waiting {name}")
            if f"waiting {name}" not in self._told:
                log.warning("certificate %s is not there yet: its names are refused until it is obtained", name)
        self._told = told

    async def _changed(self, seen: Gathered) -> bool:
        """Returns true as soon as files differ from what was gathered last, false when that is to be seen anew."""
        stop = asyncio.Event()
        watched = {p.parent for p in seen.stamps} | {p.resolve().parent for p in seen.stamps} | set(seen.directories)
        directories = [d for d in watched if d.is_dir()]
        if not directories:
            await asyncio.sleep(LOOK_EVERY / 1000)
            return self.seen is seen and _differs(seen)
        events = awatch(
            *directories,
            stop_event=stop,
            debounce=DEBOUNCE,
            step=STEP,
            rust_timeout=LOOK_EVERY,
            yield_on_timeout=True,
            recursive=False,
        )
        try:
            async for _ in events:
                if self.seen is not seen:
                    return False
                if await asyncio.to_thread(_differs, seen):
                    return True
            return False
        finally:
            stop.set()
            await events.aclose()


def _differs(seen: Gathered) -> bool:
    return any(stamp(path) != state for path, state in seen.stamps.items())


def _order(entry: Entry) -> tuple[str, str]:
    return entry.name, entry.source


def _now() -> float:
    return time.time()

"""A control process for tests of the duty: real files, a supervisor that notes what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson

from pygate.config.problem import Problem
from pygate.control.certificates.keeper import Keeper
from pygate.control.supervisor import Superseded, WorkerError


class Loaded:
    """A configuration that has been read."""

    def __init__(self, value: dict[str, Any], base: Path, revision: str = "r1") -> None:
        self.value = value
        self.json = orjson.dumps(value)
        self.base = base
        self.revision = revision

    def locate(self, problem: Problem) -> Problem:
        return problem


class Supervisor:
    """Workers that take every material, unless told otherwise."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.refuse = ""
        #: Materials that are taken before that.
        self.refuse_after = 0
        self.superseded: set[str] = set()
        #: Seconds a worker takes.
        self.slow = 0.0

    async def certificates(self, path: Path, revision: str) -> None:
        await asyncio.sleep(self.slow)
        if revision in self.superseded:
            raise Superseded(f"revision {revision} is no longer in force")
        if self.refuse and len(self.paths) >= self.refuse_after:
            raise WorkerError(self.refuse)
        self.paths.append(path)


class Shared:
    def __init__(self) -> None:
        self.keys: list[bytes] = []

    def rotate_ticket_keys(self, key: bytes) -> None:
        self.keys.append(key)


class Control:
    """What the duty uses of the control process."""

    def __init__(self, value: dict[str, Any], base: Path, run_dir: Path) -> None:
        self.loaded: Any = Loaded(value, base)
        self.run_dir = run_dir
        self.supervisor = Supervisor()
        self.shared = Shared()
        self.certificates: Keeper | None = None
        self._changed = asyncio.Event()

    async def changed_from(self, revision: str) -> Any:
        while self.loaded.revision == revision:
            await self._changed.wait()
        return self.loaded

    def change(self, value: dict[str, Any]) -> None:
        """Puts another configuration in force."""
        self.loaded = Loaded(value, self.loaded.base, self.loaded.revision + "+")
        self._changed.set()
        self._changed.clear()

    @property
    def material(self) -> Any:
        """What workers have."""
        return orjson.loads(self.supervisor.paths[-1].read_bytes())

    def names(self) -> list[str]:
        """Names in the leaves that workers have."""
        from pygate.control.certificates import pem

        found: list[str] = []
        for item in self.material["certificates"]:
            found += pem.facts(pem.chain(item["cert"].encode())[0]).sans
        return found


@contextlib.asynccontextmanager
async def keeping(control: Control, work: bool = False) -> AsyncIterator[Keeper]:
    """A keeper at work; `work`: authorities and responders are asked, too."""
    fake: Any = control
    keeper = Keeper(fake)
    tasks = [asyncio.create_task(keeper.follow()), asyncio.create_task(keeper.watch())]
    if work:
        tasks.append(asyncio.create_task(keeper.work()))
    try:
        yield keeper
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        failures = [r for r in results if isinstance(r, Exception)]
        assert not failures, failures


async def until(condition: Callable[[], Any], what: str, timeout: float = 20.0) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := condition():
            return value
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {timeout} s: {what}")

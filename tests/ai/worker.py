"""A worker without a data plane: `python -m tests.ai.worker`, started as `pygate.worker` is.

It writes the keys it takes to `taken-PID` in the run directory, one line per snapshot: when (monotonic), `listening` or
`starting`, the JSON. With `PYGATE_TEST_REFUSE` in the environment it refuses keys once it listens.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from pygate.ai.snapshot import version_of
from pygate.control.link import Launch, WorkerLink


class Service:
    def __init__(self, run_dir: Path) -> None:
        self._taken = run_dir / f"taken-{os.getpid()}"
        self._listening = False
        self.keys_version = 0

    async def publish(
        self, revision: str, directory: Path, material: Path, keys: Path | None = None, alone: bool = False
    ) -> None:
        if keys is not None and not self._listening:
            await self.take_keys(keys)
        # Compiling takes its time; keys do not wait for it.
        await asyncio.sleep(float(os.environ.get("PYGATE_TEST_COMPILE", "0")) if self._listening else 0.0)
        self._listening = True

    async def take_keys(self, path: Path) -> None:
        if self._listening and "PYGATE_TEST_REFUSE" in os.environ:
            raise ValueError("no room for keys")
        data = path.read_bytes()
        with self._taken.open("ab") as file:
            state = b"listening" if self._listening else b"starting"
            file.write(b"%.6f %s %s\n" % (time.monotonic(), state, data))
        self.keys_version = version_of(data)

    async def drain(self, timeout: float) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        pass

    def stats(self) -> dict[str, Any]:
        return {}


if __name__ == "__main__":
    launch = Launch.parse(sys.argv[1:])
    uvloop.run(WorkerLink(launch, Service(launch.shared.parent)).run())

"""A control process whose workers are `tests.ai.worker`: `python -m tests.ai.control CONFIG RUN_DIR`.

Counters that it restores are written to `restored` in the run directory, one JSON list a line.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import orjson
import uvloop

from pygate.ai.service import Ai, Budgets
from pygate.config import load
from pygate.control.process import Control, Options


class Recorder:
    def __init__(self, run_dir: Path) -> None:
        self._file = run_dir / "restored"

    def restore_budgets(self, entries: list[tuple[str, str, str, int]]) -> None:
        with self._file.open("ab") as file:
            file.write(orjson.dumps(entries) + b"\n")


async def serve(config: Path, run_dir: Path) -> int:
    prepare = Ai.prepare

    def recorded(self: Ai, budgets: Budgets, kept: bool) -> None:
        prepare(self, Recorder(run_dir), kept)

    Ai.prepare = recorded  # type: ignore[method-assign]
    worker = [sys.executable, "-m", "tests.ai.worker"]
    options = Options(config, run_dir, [], worker_command=worker, watch=False)
    return await Control(options, load(config).ensure()).run()


if __name__ == "__main__":
    logging.basicConfig(level="DEBUG", stream=sys.stderr)
    sys.exit(uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2]))))

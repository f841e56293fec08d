"""What the control process does beside supervising: admin listener, telemetry, health checks and the like.

A duty is a module of `DUTIES` with `async def run(control: Control) -> None`, which works until it is cancelled.
It reads `control.loaded` (the configuration in force), `control.shared`, `control.run_dir`, and follows changes with
`await control.changed_from(revision)`. A duty that raises is logged and started again; it never takes the gateway
down and must not block the loop.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pygate.control.process import Control

log = logging.getLogger("pygate.control")

DUTIES = (
    "pygate.admin.server",
    "pygate.control.health",
    "pygate.telemetry.duty",
    "pygate.control.certificates.duty",
    "pygate.ai.duty",
)

FIRST_DELAY = 0.5
MOST_DELAY = 30.0
HEALTHY_AFTER = 60.0


async def perform(module: str, control: Control) -> None:
    """Runs one duty for ever."""
    delay = FIRST_DELAY
    while True:
        begun = time.monotonic()
        try:
            await importlib.import_module(module).run(control)
            return
        except Exception:
            delay = FIRST_DELAY if time.monotonic() - begun > HEALTHY_AFTER else min(delay * 2, MOST_DELAY)
            log.exception("%s failed; started again in %.1f s", module, delay)
        await asyncio.sleep(delay)

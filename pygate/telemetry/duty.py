"""Telemetry as a duty of the control process: follows revisions."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pygate.config.secrets import SecretError
from pygate.telemetry.families import Family, Point
from pygate.telemetry.service import Telemetry

if TYPE_CHECKING:
    from pygate.control.process import Control

log = logging.getLogger("pygate.telemetry")


async def run(control: Control) -> None:
    """Runs telemetry until cancelled; `control.telemetry` is there meanwhile."""
    loaded = control.loaded
    telemetry = Telemetry(
        loaded.value,
        control.shared,
        Path(loaded.setting("audit", "dir")),
        revision=loaded.revision,
        config_dir=_directory(control.options.config),
        extra=lambda: _control_families(control),
    )
    telemetry.start()
    control.telemetry = telemetry
    try:
        while True:
            loaded = await control.changed_from(loaded.revision)
            try:
                await asyncio.to_thread(telemetry.update, loaded.value, loaded.revision)
            except SecretError as e:
                log.error("telemetry goes on with the settings before: %s", e)
    finally:
        control.telemetry = None
        # Not in a thread of the loop's pool: this duty may be cancelled because the loop ends.
        telemetry.stop()


def _control_families(control: Control) -> list[Family]:
    """Numbers of the control process."""
    supervisor = control.supervisor
    reloads = Family("pygate.config.reloads", "Configurations read again, by result.", "{reload}", "counter")
    reloads.points = [Point({"pygate.result": result}, count) for result, count in control.reloads.items()]
    restarts = Family("pygate.worker.restarts", "Workers started again after they died.", "{restart}", "counter")
    restarts.points = [Point({}, supervisor.restarts)]
    workers = Family("pygate.workers", "Worker processes, by state.", "{worker}", "updown")
    states = [worker.state.name.lower() for worker in supervisor.workers]
    workers.points = [Point({"pygate.state": state}, states.count(state)) for state in sorted(set(states))]
    good = Family("pygate.config.last_reload.ok", "1 when the last configuration read was put in force.", "", "gauge")
    good.points = [Point({}, int(control.last_reload.ok))]
    return [reloads, restarts, workers, good, *(control.certificates.families() if control.certificates else ())]


def _directory(config: Path) -> Path:
    return config if config.is_dir() else config.parent

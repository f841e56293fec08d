"""`python -m pygate.worker`: started by the control process, see `pygate.control.channel`."""

from __future__ import annotations

import gc
import sys

import uvloop

from pygate.control.link import Launch, WorkerLink
from pygate.worker.service import Service


async def serve(launch: Launch) -> None:
    """Runs until drained or stopped."""
    service = Service(launch.slot, launch.shared, launch.listeners)
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.freeze()
    # No request makes cycles (a protocol and its transport are parted at their end): looking for some seldom pays.
    gc.set_threshold(50_000, 50, 100)
    await WorkerLink(launch, service).run()


def main(argv: list[str] | None = None) -> None:
    """Parses the command line and serves."""
    uvloop.run(serve(Launch.parse(sys.argv[1:] if argv is None else argv)))


if __name__ == "__main__":
    main()

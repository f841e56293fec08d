"""Notices that the configuration on disk is no longer the one that was read.

Directories are watched, not files: editors and orchestrators replace files and swap symbolic links. Whatever
happens there only prompts a look at the stamps taken while reading, so noise costs a few `stat` calls and a change
that falls into a reload is not missed.
"""

from __future__ import annotations

import asyncio

from watchfiles import awatch

from pygate.config import Loaded
from pygate.config.source import stamps

#: Changes within this time, in milliseconds, are one change.
DEBOUNCE = 300
STEP = 50
LOOK_EVERY = 2000


def differs(loaded: Loaded) -> bool:
    """Whether reading again could give something else."""
    return stamps(list(loaded.stamps), loaded.directories) != loaded.stamps


async def changed(loaded: Loaded) -> None:
    """Returns as soon as the files differ from what was read."""
    stop = asyncio.Event()
    watched = {p.parent for p in loaded.stamps} | {p.resolve().parent for p in loaded.stamps} | set(loaded.directories)
    events = awatch(
        *(d for d in watched if d.is_dir()),
        stop_event=stop,
        debounce=DEBOUNCE,
        step=STEP,
        # Where notifications do not reach (network file systems, a change just before the watch began).
        rust_timeout=LOOK_EVERY,
        yield_on_timeout=True,
        recursive=False,
        raise_interrupt=False,
    )
    try:
        async for _ in events:
            if differs(loaded):
                return
    finally:
        stop.set()
        await events.aclose()

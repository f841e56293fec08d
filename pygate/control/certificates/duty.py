"""Certificates as a duty of the control process: files, ACME, OCSP, ticket keys.

Sleeps until a configuration has to do with TLS; only then are the libraries loaded.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from pygate.control.certificates import settings

if TYPE_CHECKING:
    from pygate.control.process import Control

#: Seconds between two ticket keys. Workers know the newest three; a ticket is good for one of these periods.
ROTATE_EVERY = 12 * 3600.0
TICKET_KEY_BYTES = 48

#: When this process made the last key (monotonic): a duty that is started again makes none of its own.
_rotated: float | None = None


async def run(control: Control) -> None:
    """Keeps the certificates in force current until cancelled."""
    loaded = control.loaded
    while not settings.concerned(loaded.value):
        loaded = await control.changed_from(loaded.revision)
    from pygate.control.certificates.keeper import Keeper

    keeper = Keeper(control)
    await asyncio.to_thread(keeper.board.clear)
    control.certificates = keeper
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(rotate(control))
            group.create_task(keeper.follow())
            group.create_task(keeper.watch())
            group.create_task(keeper.work())
    finally:
        control.certificates = None


async def rotate(control: Control) -> None:
    """Makes a ticket key at the start and then one every `ROTATE_EVERY` seconds."""
    global _rotated
    while True:
        wait = 0.0 if _rotated is None else _rotated + ROTATE_EVERY - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
            continue
        control.shared.rotate_ticket_keys(os.urandom(TICKET_KEY_BYTES))
        _rotated = time.monotonic()

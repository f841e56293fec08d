"""Keys and usage as a duty of the control process: tells workers of changes, follows the audit log."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pygate.ai.service import POLL
from pygate.ai.settings import Settings

if TYPE_CHECKING:
    from pygate.control.process import Control

log = logging.getLogger("pygate.ai")


async def run(control: Control) -> None:
    """Works until cancelled."""
    ai, revision = control.ai, control.loaded.revision
    try:
        while True:
            ai.follow()
            if await ai.poll():
                await control.tell_keys()
            if control.loaded.revision != revision:
                revision = control.loaded.revision
                now, then = Settings.of(control.loaded), ai.settings
                if (now.url, now.audit_dir) != (then.url, then.audit_dir):
                    log.warning("ai.store changes with the next start or upgrade")
            await asyncio.sleep(POLL)
    except asyncio.CancelledError:
        # Not in a thread of the loop's pool: the loop may be about to end.
        ai.close()
        raise

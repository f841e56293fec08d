"""`python -m pygate.demo ADDRESS LOCK`: serves the demo upstream for as long as a gateway holds the lock file."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys

from pygate.admin.http import Server
from pygate.config.address import Address
from pygate.control.listeners import ListenError, bind
from pygate.demo.upstream import answer

LOOK_EVERY = 0.3


async def serve(address: str, lock: str) -> None:
    """Returns when no process holds `lock` any more: an upgrade passes it on, a crash lets it go."""
    server = await asyncio.start_server(Server(answer).connected, sock=bind(Address.parse(address)))
    async with server:
        while _is_held(lock):
            await asyncio.sleep(LOOK_EVERY)


def _is_held(lock: str) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(sys.argv[1], sys.argv[2]))
    except ListenError as e:
        print(f"demo upstream: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

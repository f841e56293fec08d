"""Tells systemd how it goes (sd_notify(3)); does nothing where there is no systemd."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping


class Notifier:
    """The service's side of `Type=notify`."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Takes `NOTIFY_SOCKET` and the watchdog's variables out of `environ`: workers must not have them."""
        self._path = environ.pop("NOTIFY_SOCKET", "")
        watchdog, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        #: Seconds between two signs of life, `None` when systemd does not ask for any.
        self.watchdog = int(watchdog) / 2e6 if watchdog.isdigit() and mine else None
        self._usec = watchdog

    def environment(self) -> dict[str, str]:
        """What a successor needs to go on notifying."""
        if not self._path:
            return {}
        return {"NOTIFY_SOCKET": self._path, **({"WATCHDOG_USEC": self._usec} if self._usec else {})}

    def send(self, *lines: str) -> None:
        """One datagram; a systemd that does not listen is no reason to stop."""
        if not self._path:
            return
        path = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(path)
            sock.sendall("\n".join(lines).encode())

    def ready(self, status: str) -> None:
        self.send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self.send("STOPPING=1", "STATUS=draining")

    def alive(self) -> None:
        self.send("WATCHDOG=1")

    def handed_over(self, pid: int) -> None:
        """The successor is the service's main process from now on."""
        self.send(f"MAINPID={pid}", "READY=1", f"STATUS=upgraded to process {pid}")

"""One worker as the control process sees it: a process, a channel, a state.

Works alike for workers started here and for orphans of a control process that died: both are watched through a
pidfd; only our own children are reaped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from pygate.control.channel import Channel, ChannelError, Decoder, Message, encode
from pygate.control.listeners import Listener

log = logging.getLogger("pygate.control")

#: Variables that are addressed to the control process alone.
_PRIVATE = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class State(Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


class WorkerProcess:
    """A worker. Its owner learns of everything through `on_event(worker, kind, body)`; `gone` is the last event."""

    def __init__(self, slot: int, pid: int, generation: int, on_event: Callable[[WorkerProcess, str, Message], None]):
        self.slot = slot
        self.pid = pid
        self.generation = generation
        self.state = State.STARTING
        self.revision = ""
        self.stats: Message = {}
        #: Version of the virtual keys in force in it; 0: none.
        self.keys = 0
        self.started = time.monotonic()
        self.heard = self.started
        self.draining = False
        self.exit = ""
        self.listeners: list[str] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._on_event = on_event
        self._watch()

    @classmethod
    async def spawn(
        cls,
        command: list[str],
        slot: int,
        generation: int,
        shared: Path,
        listeners: dict[str, Listener],
        on_event: Callable[[WorkerProcess, str, Message], None],
    ) -> WorkerProcess:
        """Starts a worker: a fresh interpreter that inherits the listeners and one end of its channel."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            argv = [*command, "--slot", str(slot), "--control-fd", str(theirs.fileno()), "--shared", str(shared)]
            for name, listener in listeners.items():
                argv += ["--listen", f"{name}={listener.sock.fileno()}"]
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *(item.sock.fileno() for item in listeners.values())],
                env={k: v for k, v in os.environ.items() if k not in _PRIVATE and not k.startswith("PYGATE_HANDOVER")},
                # Its own group: Ctrl-C on the terminal is for the control process, which drains.
                process_group=0,
            )
        worker = cls(slot, child.pid, generation, on_event)
        worker._child = child
        worker.listeners = list(listeners)
        worker._channel = await Channel.attach(ours, worker._received, lambda: None)
        return worker

    @classmethod
    async def adopt(
        cls, path: Path, generation: int, on_event: Callable[[WorkerProcess, str, Message], None]
    ) -> tuple[WorkerProcess, dict[str, socket.socket]] | None:
        """Takes charge of an orphan through its own socket; returns it with copies of its listening sockets.

        `None` when nobody is there any more or it has a control process.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(2.0)
        try:
            sock.connect(str(path))
            sock.sendall(encode("adopt", {}))
            data, fds, _, _ = socket.recv_fds(sock, 64 << 10, 64)
            sockets = [socket.socket(fileno=fd) for fd in fds]
            kind, hello = next(iter(Decoder().feed(data)), ("", {}))
            if kind != "hello" or len(hello["listeners"]) != len(sockets):
                raise ChannelError("no hello")
            for inherited in sockets:
                inherited.setblocking(False)
            worker = cls(int(hello["slot"]), int(hello["pid"]), generation, on_event)
        except (OSError, ChannelError, KeyError, ValueError, TypeError):
            sock.close()
            return None
        worker.revision = str(hello["revision"])
        worker.state = State.READY if worker.revision else State.STARTING
        worker.listeners = list(hello["listeners"])
        worker._channel = await Channel.attach(sock, worker._received, lambda: None)
        return worker, dict(zip(hello["listeners"], sockets, strict=True))

    def send(self, kind: str, body: Message | None = None) -> None:
        if self._channel is not None:
            self._channel.send(kind, body)

    def drain(self, timeout: float) -> None:
        """Asks it to finish and exit."""
        if self.state not in (State.DRAINING, State.GONE):
            self.state = State.DRAINING
            self.draining = True
            self.send("drain", {"timeout": timeout})

    def kill(self) -> None:
        """SIGKILL; the `gone` event follows."""
        if self.state is not State.GONE:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def describe(self) -> Message:
        """For the admin listener."""
        return {
            "slot": self.slot,
            "pid": self.pid,
            "state": self.state.value,
            "revision": self.revision,
            "generation": self.generation,
            "keys": self.keys,
            "uptime_s": round(time.monotonic() - self.started, 1),
            "stats": self.stats,
        }

    def _watch(self) -> None:
        self._pidfd = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._exited)

    def _received(self, kind: str, body: Message) -> None:
        self.heard = time.monotonic()
        if kind in ("ready", "applied"):
            self.revision = str(body.get("revision", ""))
            if self.state is State.STARTING:
                self.state = State.READY
        elif kind == "keys":
            self.keys = int(body.get("version", 0))
            if error := body.get("error"):
                log.error("worker %d (process %d) refuses keys: %s", self.slot, self.pid, error)
        elif kind == "stats":
            self._watch_audit(body)
            self.stats = body
        self._on_event(self, kind, body)

    def _watch_audit(self, body: Message) -> None:
        """Raises the alarm when the worker's audit log breaks, and calls it off."""
        broken, before = body.get("audit_broken"), self.stats.get("audit_broken")
        if broken and not before:
            log.error("worker %d cannot write its audit log: %s", self.slot, os.strerror(int(broken)))
        elif before and not broken:
            log.warning("worker %d writes its audit log again", self.slot)

    def _exited(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._child is not None:
            code = self._child.wait()
            self.exit = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        else:
            self.exit = "unknown (not our child)"
        self.state = State.GONE
        if self._channel is not None:
            self._channel.close()
        self._on_event(self, "gone", {})

"""The worker's side of the control channel.

Rules:

1. The control process may die at any time: the worker then serves on with its last good revision and waits on
   its own socket `worker-<pid>.sock` in the run directory for a new control process, to which it hands copies
   of its listening sockets.
2. A worker obeys one control process at a time; while it has one, others are turned away.
3. Publishes are applied one after the other, in the order they came.
4. Keys are taken at once, also while a publish or drain is under way.
5. SIGTERM means drain, SIGINT is the control process's business (a terminal sends it to both).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pygate.config.secrets import SecretError
from pygate.control.channel import Channel, Message, encode

DEFAULT_DRAIN = 30.0


class Service(Protocol):
    """What a worker does for the link."""

    async def publish(
        self, revision: str, directory: Path, material: Path, keys: Path | None = None, alone: bool = False
    ) -> None:
        """Compiles and puts in force; the first one also starts listening. Raises to refuse."""

    async def take_keys(self, path: Path) -> None:
        """Puts the virtual keys in a file in force, as soon as there is a revision. Raises to refuse."""

    @property
    def keys_version(self) -> int:
        """Version of the keys in force; 0: none."""

    async def drain(self, timeout: float) -> None:
        """Accepts no more and returns when nothing is in flight, or after `timeout` seconds."""

    async def close(self) -> None:
        """The worker ends: brings to disk what it recorded. May follow a `drain`."""

    def stats(self) -> Message:
        """Numbers that are not in shared memory."""


@dataclass(frozen=True)
class Launch:
    """What a worker is told on its command line."""

    slot: int
    control: socket.socket
    shared: Path
    listeners: dict[str, socket.socket]

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Launch:
        """Reads `--slot K --control-fd N --shared PATH --listen NAME=FD …`; exits with code 2 on anything else."""
        parser = argparse.ArgumentParser(prog="pygate.worker", description="A worker; started by the control process.")
        parser.add_argument("--slot", type=int, required=True)
        parser.add_argument("--control-fd", type=int, required=True)
        parser.add_argument("--shared", type=Path, required=True)
        parser.add_argument("--listen", action="append", default=[], metavar="NAME=FD")
        args = parser.parse_args(argv)
        listeners = {}
        for item in args.listen:
            name, _, fd = item.rpartition("=")
            listeners[name] = socket.socket(fileno=int(fd))
            listeners[name].setblocking(False)
        return cls(args.slot, socket.socket(fileno=args.control_fd), args.shared, listeners)


class WorkerLink:
    """Takes orders until the worker may exit."""

    def __init__(self, launch: Launch, service: Service) -> None:
        self._launch = launch
        self._service = service
        self._channel: Channel | None = None
        self._jobs: asyncio.Queue[tuple[str, Message]] = asyncio.Queue()
        self._revision = ""
        self._taking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Returns when the worker is drained or told to stop."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_message, "drain", {})
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        path = self._launch.shared.parent / f"worker-{os.getpid()}.sock"
        waiting = await self._listen(path)
        self._channel = await Channel.attach(self._launch.control, self._on_message, self._orphaned)
        try:
            while True:
                kind, body = await self._jobs.get()
                if kind == "stop" or (kind == "orphaned" and not self._revision):
                    break
                if kind == "publish":
                    await self._publish(body)
                elif kind == "drain":
                    waiting.cancel()
                    await self._drain(float(body.get("timeout", DEFAULT_DRAIN)))
                    break
        finally:
            waiting.cancel()
            with contextlib.suppress(OSError):
                path.unlink()
            await self._service.close()

    def _on_message(self, kind: str, body: Message) -> None:
        if kind in ("publish", "drain", "stop"):
            self._jobs.put_nowait((kind, body))
        elif kind == "keys":
            task = asyncio.get_running_loop().create_task(self._take_keys(Path(str(body["path"]))))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)
        elif kind == "stats" and self._channel is not None:
            self._channel.send("stats", self._service.stats())

    def _orphaned(self) -> None:
        # In its turn: a publish that came before may still be under way.
        self._jobs.put_nowait(("orphaned", {}))

    async def _publish(self, body: Message) -> None:
        first, revision = not self._revision, str(body["revision"])
        material, keys = str(body.get("material", "")), str(body.get("keys", ""))
        try:
            await self._service.publish(
                revision,
                Path(str(body["path"])),
                Path(material or os.devnull),
                Path(keys) if keys else None,
                bool(body.get("alone")),
            )
        except Exception as e:
            self._send("refused", {"revision": revision, "error": _reason(e)})
            return
        self._revision = revision
        if self._service.keys_version:
            self._send("keys", {"version": self._service.keys_version})
        self._send("ready" if first else "applied", {"revision": revision})

    async def _take_keys(self, path: Path) -> None:
        answer: Message = {}
        try:
            await self._service.take_keys(path)
        except Exception as e:
            answer["error"] = _reason(e)
        self._send("keys", {"version": self._service.keys_version, **answer})

    async def _drain(self, timeout: float) -> None:
        drain = asyncio.ensure_future(self._service.drain(timeout))
        while not drain.done():
            # A `stop` cuts a drain short; whatever else arrives now no longer matters.
            order = asyncio.ensure_future(self._jobs.get())
            await asyncio.wait({drain, order}, return_when=asyncio.FIRST_COMPLETED)
            if order.done() and order.result()[0] == "stop":
                drain.cancel()
                return
            order.cancel()
        self._send("drained", {})
        # One turn of the loop, for the message to leave.
        await asyncio.sleep(0)

    def _send(self, kind: str, body: Message) -> None:
        if self._channel is not None:
            self._channel.send(kind, body)

    async def _listen(self, path: Path) -> asyncio.Task[None]:
        """Waits for a control process that finds this worker without one."""
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(4)
        server.setblocking(False)
        return asyncio.create_task(self._accept_control(server))

    async def _accept_control(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with server:
            while True:
                peer, _ = await loop.sock_accept(server)
                if self._channel is not None and self._channel.open:
                    peer.close()
                    continue
                try:
                    self._hand_over(peer)
                except OSError:
                    peer.close()
                    continue
                self._channel = await Channel.attach(peer, self._on_message, self._orphaned)

    def _hand_over(self, peer: socket.socket) -> None:
        """Answers `adopt` with who this is and copies of the listening sockets."""
        names = list(self._launch.listeners)
        hello = {
            "slot": self._launch.slot,
            "pid": os.getpid(),
            "revision": self._revision,
            "listeners": names,
            "shared": str(self._launch.shared),
        }
        peer.setblocking(True)
        peer.settimeout(1.0)
        socket.send_fds(peer, [encode("hello", hello)], [self._launch.listeners[name].fileno() for name in names])


def _reason(error: Exception) -> str:
    """Why a revision is refused, for people; a defect keeps its class."""
    return str(error) if isinstance(error, SecretError) else f"{type(error).__name__}: {error}"

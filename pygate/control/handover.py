"""Replacing the control process by a new one without closing a listener (SIGUSR2, `pygate upgrade`).

The old process starts its successor as a child that inherits the listening sockets, the run directory's lock and
one end of a channel. The successor starts its own workers in free slots; when they are ready it says so, and only
then the old process drains its workers and goes. A successor that fails leaves the old process as it was; workers
it may have started are stopped.

What is inherited is described by one environment variable, `PYGATE_HANDOVER`, a JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass

import orjson

from pygate.control.channel import Channel, Message
from pygate.control.listeners import Listener

log = logging.getLogger("pygate.control")

VARIABLE = "PYGATE_HANDOVER"
READY_TIMEOUT = 120.0


class HandoverError(Exception):
    """The successor did not come up."""


@dataclass
class Inheritance:
    """What a successor finds."""

    lock: int
    channel: socket.socket
    listeners: dict[str, Listener]
    #: Slots of the predecessor's workers.
    slots: set[int]

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Inheritance | None:
        """Takes the inheritance out of `environ`; `None` for a process that is nobody's successor."""
        text = environ.pop(VARIABLE, "")
        if not text:
            return None
        value = orjson.loads(text)
        listeners = {}
        for name, (address, fd, ours) in value["listeners"].items():
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            os.set_inheritable(fd, False)
            listeners[name] = Listener(address, sock, ours)
        for fd in (value["lock"], value["channel"]):
            os.set_inheritable(fd, False)
        return cls(value["lock"], socket.socket(fileno=value["channel"]), listeners, set(value["slots"]))


async def start_successor(
    arguments: list[str], lock: int, listeners: dict[str, Listener], slots: set[int], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Starts `pygate ARGUMENTS` as successor and returns when its workers are ready.

    Raises `HandoverError` when it ends or stays silent; it is gone then, its workers may not be.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        inheritance = {
            "lock": lock,
            "channel": theirs.fileno(),
            "listeners": {name: [item.text, item.sock.fileno(), item.ours] for name, item in listeners.items()},
            "slots": sorted(slots),
        }
        successor = subprocess.Popen(
            [sys.executable, "-m", "pygate.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=[lock, theirs.fileno(), *(item.sock.fileno() for item in listeners.values())],
            env={**os.environ, **environment, VARIABLE: orjson.dumps(inheritance).decode()},
            # Its own group: a terminal's Ctrl-C reaches it through us.
            process_group=0,
        )
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def heard(kind: str, body: Message) -> None:
        if kind == "ready" and not done.done():
            done.set_result(None)

    def closed() -> None:
        if not done.done():
            done.set_exception(HandoverError("it ended before its workers were ready"))

    await Channel.attach(ours, heard, closed)
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            await done
    except (HandoverError, TimeoutError) as e:
        with contextlib.suppress(ProcessLookupError):
            successor.kill()
        code = await asyncio.to_thread(successor.wait)
        reason = str(e) or f"its workers were not ready within {READY_TIMEOUT:.0f} s"
        raise HandoverError(f"{reason} (exit code {code})") from None
    return successor

"""What a worker does with a revision: listen, serve, drain.

Owns the gateway object, its servers and its tick. All requests are handled in `_core`; this module only starts,
publishes and stops. It opens upstream connections (one coroutine per new connection, none per request).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from pygate import _core
from pygate.ai.snapshot import version_of
from pygate.config.credentials import resolved
from pygate.guard.shipping import receive
from pygate.worker.plugins import PluginDoor

TICK = 0.02
"""Seconds between two calls of `Gateway.tick`; the core's deadlines are that exact."""

EMPTY = b'{"certificates":[],"roots":{},"challenges":{},"alpn_challenges":[]}'
"""Material without anything."""

CLOSE_TIMEOUT = 5.0
"""Seconds a worker that ends gives its audit log."""


HEAVY = 256 << 10
"""Bytes of keys above which they are read in a thread."""


class Service:
    """Serves `listeners` by the revision last published."""

    def __init__(self, slot: int, shared: Path, listeners: dict[str, socket.socket]) -> None:
        self._slot = slot
        self._shared = _core.Shared.open(shared)
        self._listeners = listeners
        self._servers: list[asyncio.Server] = []
        self._gateway: _core.Gateway | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._plugins = PluginDoor()
        self._revision = ""
        self._keys_version = 0
        #: Keys that came before the first revision.
        self._keys: Path | None = None
        #: Keys are taken one after the other, so that the last ones stay.
        self._taking_keys = asyncio.Lock()

    async def publish(
        self, revision: str, directory: Path, material: Path, keys: Path | None = None, alone: bool = False
    ) -> None:
        """Compiles `directory` off the loop and puts it in force; the first revision also starts listening.

        `material`: the certificates (`core::tls::Material`, JSON). `keys`: the virtual keys, which the first
        revision reads; `take_keys` follows their changes. `alone`: a revision that is in force already takes only the
        certificates; without it the same revision is compiled anew, since a secret behind a reference may have changed.
        """
        if alone and self._gateway is not None and revision == self._revision:
            self._gateway.publish_tls(await asyncio.to_thread(self._secure, directory, material))
            return
        compiled, plugins = await asyncio.to_thread(_compile, revision, directory)
        tls = await asyncio.to_thread(self._secure, directory, material)
        # Plugins are loaded in the main thread: their budget is kept by its signals.
        self._plugins.load(revision, plugins, directory)
        self._revision = revision
        if self._gateway is not None:
            self._gateway.publish(compiled, tls)
            return
        loop = asyncio.get_running_loop()
        self._gateway = gateway = _core.Gateway(self._shared, self._slot, compiled, self._connect, self._plugins, tls)
        gateway.use_loop(loop)
        self._plugins.gateway = gateway
        loop.add_reader(gateway.audit_fd, gateway.audit_ready)
        self._tick(loop, gateway)
        if (file := self._keys or keys) is not None:
            await self.take_keys(file)
        for name, sock in self._listeners.items():
            acceptor: Callable[[], Any] = gateway.acceptor(name)
            if sock.family == socket.AF_UNIX:
                self._servers.append(await loop.create_unix_server(acceptor, sock=sock, backlog=4096))
            else:
                self._servers.append(await loop.create_server(acceptor, sock=sock, backlog=4096))

    async def take_keys(self, path: Path) -> None:
        """Puts the keys in `path` in force; before the first revision nothing, as that reads them itself."""
        gateway, self._keys = self._gateway, path
        if gateway is None:
            return
        async with self._taking_keys:
            data = await asyncio.to_thread(path.read_bytes)
            if len(data) > HEAVY:
                await asyncio.to_thread(gateway.publish_keys, data)
            else:
                gateway.publish_keys(data)
            self._keys_version = version_of(data)

    @property
    def keys_version(self) -> int:
        """Version of the virtual keys in force; 0: none."""
        return self._keys_version

    async def drain(self, timeout: float) -> None:
        """Stops accepting and returns when no client is connected any more, or after `timeout` seconds."""
        for server in self._servers:
            server.close()
        gateway = self._gateway
        if gateway is None:
            return
        gateway.drain()
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        # What was accepted in this turn of the loop reaches the gateway in the next.
        await asyncio.sleep(TICK)
        while gateway.open_connections and loop.time() < end:
            await asyncio.sleep(TICK)

    async def close(self) -> None:
        """Brings to disk what was recorded; a disk that does not answer is not waited for."""
        if self._gateway is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(self._gateway.close), CLOSE_TIMEOUT)

    def stats(self) -> dict[str, Any]:
        """Numbers that are not in shared memory."""
        gateway = self._gateway
        if gateway is None:
            return {}
        return {
            "open_connections": gateway.open_connections,
            "in_flight": gateway.in_flight,
            "audit_broken": gateway.audit_broken,
        }

    def _secure(self, directory: Path, material: Path) -> _core.TlsStore:
        """The certificates and TLS options of the configuration in `directory`. Raises `ValueError`."""
        return _core.TlsStore(_config(directory), material.read_bytes() or EMPTY, self._shared)

    def _tick(self, loop: asyncio.AbstractEventLoop, gateway: _core.Gateway) -> None:
        loop.call_later(TICK, self._tick, loop, gateway)
        gateway.tick()

    def _connect(self, wire: _core.Wire, host: str | None, port: int, path: str | None, timeout: float) -> None:
        task = asyncio.get_running_loop().create_task(_open(wire, host, port, path, timeout))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)


def _compile(revision: str, directory: Path) -> tuple[_core.Revision, dict[str, Any]]:
    """The revision and its `[plugins]`. Reads the JSON as rarely as it can: each time holds the GIL for a while."""
    text = _config(directory)
    config = orjson.loads(text)
    # Caps for the whole gateway are shared out among the workers there are meant to be.
    workers = config.get("workers", {}).get("count", 0) or len(os.sched_getaffinity(0))
    compiled = _core.Revision(text, revision, workers, receive(directory))
    return compiled, {"plugins": config.get("plugins", {})}


def _config(directory: Path) -> bytes:
    """The configuration, its references to secrets resolved."""
    text = (directory / "config.json").read_bytes()
    return resolved(text) if b'"env:' in text or b'"file:' in text else text


async def _open(wire: _core.Wire, host: str | None, port: int, path: str | None, timeout: float) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            if path is not None:
                await loop.create_unix_connection(lambda: wire, path)
            else:
                await loop.create_connection(lambda: wire, host or "", port)
    except TimeoutError:
        wire.failed(True)
    except (OSError, ValueError):
        # ValueError: a name that is none (IDNA), a path too long for a unix socket.
        wire.failed(False)

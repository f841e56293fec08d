"""Active health checks: asks endpoints how they are and tells the workers through shared memory.

Rules:

1. An endpoint that was never checked counts as up; its first check decides at once, later ones only in a row
   (`healthy_after`, `unhealthy_after`).
2. What is known about an endpoint belongs to its service and URL: a new revision that keeps both keeps it, and so
   does a new control process (shared memory remembers). Without a control process the last findings stay in force.
3. A check is one GET on a connection of its own, over within its timeout, and reads a bounded number of bytes. Any
   2xx is healthy; everything else, nonsense included, is not.
4. With `grpc`, it is one call of the gRPC health protocol instead (`grpc_health`), under the same terms: `SERVING` is
   healthy.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pygate import _core
from pygate.control.health_tls import EndpointTls, endpoints

if TYPE_CHECKING:
    from pygate._core import HealthTarget, Shared
    from pygate.control.process import Control

log = logging.getLogger("pygate.control.health")

#: Longest answer head that is read, in bytes; a longer one is a failure.
MAX_HEAD = 16 << 10
#: Body bytes read so that the endpoint sees its answer taken, and the seconds spent on it at most.
MAX_BODY = 64 << 10
BODY_TIME = 0.25
#: Checks under way at the same time.
PARALLEL = 64
#: Longest pause before an endpoint's first check; spreads the checks of many endpoints.
FIRST_PAUSE = 0.2
#: Periods differ by up to this share, so that gateways do not check in step.
JITTER = 0.1

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?\r\n")


async def run(control: Control) -> None:
    """Checks what the configuration in force wants checked, until cancelled."""
    checker = HealthChecker(control.shared)
    loaded = control.loaded
    try:
        while True:
            checker.update(loaded.json, loaded.base)
            loaded = await control.changed_from(loaded.revision)
    finally:
        await checker.close()


class Unhealthy(Exception):
    """A check failed; the message says how."""


@dataclass
class Status:
    """What is known about one endpoint."""

    service: str
    endpoint: str
    #: None: not checked yet.
    up: bool | None
    #: Why the last check failed; empty when it did not.
    reason: str = ""
    #: Seconds since the epoch at which `up` became what it is.
    since: float = 0.0
    checks: int = 0
    #: Latest results in a row that contradict `up`.
    run: int = 0


class HealthChecker:
    """The checks of one gateway. Must be made and used on a running event loop."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._watches: dict[int, _Watch] = {}
        self._parallel = asyncio.Semaphore(PARALLEL)
        self._tls: dict[str, EndpointTls] = {}

    def update(self, config: bytes | dict[str, Any], base: Path = Path()) -> None:
        """Follows a configuration (JSON, or the value of it). Endpoints that stay keep what is known about them.

        `base`: where paths in it are relative to.

        Raises `ValueError`, changing nothing, when it is not a configuration.
        """
        text = config if isinstance(config, bytes) else orjson.dumps(config)
        targets = {target["key"]: target for target in _core.health_targets(text)}
        self._tls = endpoints(orjson.loads(text), base) if any(t["tls"] for t in targets.values()) else {}
        for key in self._watches.keys() - targets.keys():
            self._watches.pop(key).task.cancel()
            self._shared.set_health(key, None)
        for key, target in targets.items():
            watch = self._watches.get(key)
            if watch is None:
                status = Status(target["service"], target["endpoint"], self._shared.health(key), since=time.time())
            elif watch.target == target:
                continue
            else:
                watch.task.cancel()
                status = watch.status
            task = asyncio.create_task(self._watch(target, status), name=f"health {target['endpoint']}")
            self._watches[key] = _Watch(target, status, task)

    def statuses(self) -> list[Status]:
        """What is known about every checked endpoint, by service and endpoint."""
        return sorted((w.status for w in self._watches.values()), key=lambda s: (s.service, s.endpoint))

    async def close(self) -> None:
        """Stops checking; what was found stays in shared memory."""
        tasks = [watch.task for watch in self._watches.values()]
        self._watches.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, target: HealthTarget, status: Status) -> None:
        await asyncio.sleep(random.uniform(0, min(FIRST_PAUSE, target["interval"])))
        while True:
            begun = time.monotonic()
            async with self._parallel:
                reason = await check(target, self._tls.get(target["service"]) if target["tls"] else None)
            self._judge(target, status, reason)
            period = target["interval"] * random.uniform(1 - JITTER, 1 + JITTER)
            await asyncio.sleep(max(0.0, begun + period - time.monotonic()))

    def _judge(self, target: HealthTarget, status: Status, reason: str) -> None:
        up = not reason
        status.checks += 1
        status.reason = reason
        status.run = 0 if up == status.up else status.run + 1
        needed = target["healthy_after"] if up else target["unhealthy_after"]
        if status.up is None or status.run >= needed:
            if status.up != up and (status.up is not None or not up):
                level, word = (logging.INFO, "up") if up else (logging.WARNING, f"down: {reason}")
                log.log(level, "endpoint %s of service %s is %s", status.endpoint, status.service, word)
            status.up, status.since, status.run = up, time.time(), 0
        # Written every time, so that the entry in shared memory never looks abandoned.
        if not self._shared.set_health(target["key"], status.up):
            log.error("no room in shared memory for the health of %s: it counts as up", status.endpoint)


@dataclass
class _Watch:
    target: HealthTarget
    status: Status
    task: asyncio.Task[None]


async def check(target: HealthTarget, tls: EndpointTls | None = None) -> str:
    """Checks one endpoint once, over TLS if `tls` says how; returns why it failed, or an empty string."""
    try:
        async with asyncio.timeout(target["timeout"]):
            if target["grpc"] is None:
                await _probe(target, tls)
            else:
                # Imported where it is used: grpcio is big, and most gateways check over HTTP.
                from pygate.control.grpc_health import serving

                reason = await serving(target, target["grpc"], tls)
                if reason:
                    raise Unhealthy(reason)
    except TimeoutError:
        return f"no answer within {target['timeout']:g} s"
    except (OSError, Unhealthy) as e:
        return str(e) or type(e).__name__
    return ""


async def _probe(target: HealthTarget, tls: EndpointTls | None) -> None:
    if tls is not None:
        context = await asyncio.to_thread(tls.context)
        name = tls.server_name(target["host"])
        reader, writer = await asyncio.open_connection(
            target["host"], target["port"], limit=MAX_HEAD, ssl=context, server_hostname=name
        )
        session = writer.get_extra_info("ssl_object")
        if not tls.pinned(session.getpeercert(binary_form=True) or b""):
            writer.transport.abort()
            raise Unhealthy("the endpoint's key is none of those pinned")
    elif target["socket"]:
        reader, writer = await asyncio.open_unix_connection(target["socket"], limit=MAX_HEAD)
    else:
        reader, writer = await asyncio.open_connection(target["host"], target["port"], limit=MAX_HEAD)
    try:
        writer.write(
            f"GET {target['path']} HTTP/1.1\r\nHost: {target['host_header']}\r\nUser-Agent: pygate-health\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        status = await _status(reader)
        if not 200 <= status <= 299:
            raise Unhealthy(f"status {status}")
        await _take_body(reader)
    finally:
        writer.transport.abort()


async def _status(reader: asyncio.StreamReader) -> int:
    """Reads heads up to the one of the final answer; returns its status."""
    read = 0
    while read < MAX_HEAD:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as e:
            raise Unhealthy("closed before the answer was complete" if e.partial else "closed without answer") from None
        except asyncio.LimitOverrunError:
            break
        line = _STATUS_LINE.match(head)
        if line is None:
            raise Unhealthy("the answer is not HTTP/1")
        status = int(line[1])
        if status == 101:
            raise Unhealthy("status 101")
        if status >= 200:
            return status
        read += len(head)
    raise Unhealthy(f"the answer's head exceeds {MAX_HEAD} bytes")


async def _take_body(reader: asyncio.StreamReader) -> None:
    """Reads on a little, so that closing does not look like a reset to the endpoint. Nothing here is a failure."""
    left = MAX_BODY
    try:
        async with asyncio.timeout(BODY_TIME):
            while left > 0 and (data := await reader.read(left)):
                left -= len(data)
    except (TimeoutError, OSError):
        pass

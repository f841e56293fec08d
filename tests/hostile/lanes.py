"""The gateway under test: one process, an entrypoint with a route and an upstream of its own for every lane.

Options differ by variant (`table/variants.toml`), so one gateway serves all of them: a variant is a set of entrypoints.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.control.running import Gateway, wait_for
from tests.hostile.certificates import Certificates
from tests.hostile.rows import TABLE
from tests.hostile.upstream import Upstream

#: Deadlines that no row but those of `hasty` variants waits for: long enough for a busy machine.
ENTRYPOINT: dict[str, Any] = {"head_timeout": "25s", "idle_timeout": "40s", "body_timeout": "25s"}
SERVICE: dict[str, Any] = {"connect_timeout": "20s", "first_byte_timeout": "25s", "body_timeout": "25s"}

#: The runner's own requests pass whatever a variant asks of others.
OWN: dict[str, Any] = {"match": {"path": "/-/**"}, "priority": 1000}

#: Longest wait for a busy machine to start the gateway, seconds.
START = 120.0

#: Signs of a defect in the gateway's log.
DEFECTS = ("Traceback", "panicked", "Exception ignored", "exception handler")


@dataclass(frozen=True)
class Variant:
    """One set of options."""

    name: str
    what: str
    lanes: int = 2
    tls_lanes: int = 1
    entrypoint: dict[str, Any] = field(default_factory=dict)
    tls: dict[str, Any] = field(default_factory=dict)
    service: dict[str, Any] = field(default_factory=dict)
    route: dict[str, Any] = field(default_factory=dict)
    #: Routes before the one that takes everything; `service` is put in.
    routes: list[dict[str, Any]] = field(default_factory=list)
    policies: dict[str, Any] = field(default_factory=dict)
    #: Sent before anything else by the runner's own requests.
    prefix: str = ""


def variants(path: Path = TABLE / "variants.toml") -> dict[str, Variant]:
    return {name: Variant(name, **raw) for name, raw in tomllib.loads(path.read_text()).items()}


@dataclass
class Lane:
    """An entrypoint of its own, before an upstream of its own."""

    name: str
    variant: Variant
    tls: bool
    upstream: Upstream
    port: int = 0
    certificates: Certificates | None = None


class Lanes:
    """All lanes of one gateway; `async with` starts and ends it."""

    def __init__(self, wanted: Iterable[Variant], tls: bool) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pygate-"))
        self.gateway = Gateway(self.directory, 0, count=1)
        self.access_log = self.directory / "access.log"
        self.certificates = Certificates(self.directory) if tls else None
        self.lanes: list[Lane] = []
        for variant in wanted:
            kinds = [False] * variant.lanes + [True] * (variant.tls_lanes if tls else 0)
            for number, secure in enumerate(kinds):
                upstream = Upstream(variant.service.get("protocol") == "http2")
                lane = Lane(f"{variant.name}-{number}", variant, secure, upstream, certificates=self.certificates)
                self.lanes.append(lane)

    async def __aenter__(self) -> Lanes:
        for lane in self.lanes:
            await lane.upstream.start()
        self.gateway.config.write_text(self.configuration())
        process = await asyncio.to_thread(self.gateway.start, wait=False)

        def ready() -> bool:
            assert process.poll() is None, self.gateway.log
            return self.gateway.ask("/-/ready")[0] == 200

        await asyncio.to_thread(wait_for, ready, "readiness", START)
        listening = (await asyncio.to_thread(self.gateway.state))["listening"]
        for lane in self.lanes:
            lane.port = int(listening[lane.name].rpartition(":")[2])
        return self

    async def __aexit__(self, *_: object) -> None:
        for lane in self.lanes:
            await lane.upstream.stop()
        await asyncio.to_thread(self.gateway.close)
        shutil.rmtree(self.directory, ignore_errors=True)

    def configuration(self) -> str:
        """The gateway's TOML."""
        config: dict[str, Any] = {
            "admin": {"address": f"unix:{self.directory / 'admin.sock'}"},
            "audit": {"dir": str(self.directory / "audit")},
            "telemetry": {"access_log": str(self.access_log)},
            "workers": {"count": 1, "drain_timeout": "1s"},
            "entrypoints": {},
            "services": {},
            "routes": [],
            "policies": {},
        }
        if self.certificates:
            config["certificates"] = self.certificates.configuration()
        for lane in self.lanes:
            variant, name = lane.variant, lane.name
            entrypoint = {**ENTRYPOINT, "address": "127.0.0.1:0", **variant.entrypoint}
            if lane.tls:
                assert self.certificates is not None
                entrypoint["tls"] = _with(str(self.certificates.ca), {"default_certificate": "main", **variant.tls})
            config["entrypoints"][name] = entrypoint
            endpoint = f"http://127.0.0.1:{lane.upstream.port}"
            config["services"][name] = {**SERVICE, "endpoints": [endpoint], **variant.service}
            for number, route in enumerate([OWN, *variant.routes, {"match": {"path": "/**"}, **variant.route}]):
                config["routes"].append({"name": f"{name}-{number}", "entrypoints": [name], "service": name, **route})
            config["policies"].update(variant.policies)
        return toml(config)

    def findings(self) -> list[str]:
        """What the gateway's log and counters hold that none of its clients may bring about."""
        log = self.gateway.log
        found = [
            f"{sign!r} in the gateway's log: …{log[log.index(sign) - 200 :][:600]}" for sign in DEFECTS if sign in log
        ]
        status, metrics = wait_for(lambda: self.gateway.ask("/metrics"), "metrics", START)
        panics = [line for line in metrics.decode().splitlines() if line.startswith("pygate_worker_panics")]
        if status != 200 or not panics:
            found.append(f"/metrics says nothing of panics (status {status})")
        found.extend(self._access_log())
        found.extend(f"a panic was counted: {line}" for line in panics if float(line.rsplit(" ", 1)[1]) != 0)
        return found

    def _access_log(self) -> list[str]:
        """Every line is one JSON object about one request: nobody has written a line of his own (CVE-2024-45808)."""
        try:
            # It is written a little behind the requests.
            wait_for(lambda: self.access_log.exists() and self.access_log.read_bytes().endswith(b"\n"), "lines", 30)
        except AssertionError:
            return ["the access log has no lines, or ends inside one"]
        lines = self.access_log.read_bytes().split(b"\n")
        lines.pop()
        found = []
        for line in lines:
            try:
                record = json.loads(line.decode())
            except ValueError as e:
                found.append(f"a line of the access log is no JSON: {e}: {line[:300]!r}")
                continue
            if not isinstance(record, dict) or any(b in line for b in range(0x20)):
                found.append(f"a line of the access log that is no record: {line[:300]!r}")
        return found[:10]


def _with(ca: str, value: Any) -> Any:
    """The same with the authority's path for `{ca}`."""
    if isinstance(value, dict):
        return {key: _with(ca, inner) for key, inner in value.items()}
    return ca if value == "{ca}" else value


def toml(value: Any, path: str = "") -> str:
    """A TOML document of a table of tables; what is deeper is written inline."""
    lines: list[str] = []
    for name, section in value.items():
        if isinstance(section, list):
            lines.append(f"{name} = [{', '.join(inline(item) for item in section)}]")
        else:
            lines.append(f"{name} = {inline(section)}")
    return "\n".join(lines) + "\n"


def inline(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{inline(str(k))} = {inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        return f'"{escaped}"'
    return str(value)

"""What the configuration says about telemetry, with defaults filled in and references resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pygate.config.providers import serves_models
from pygate.config.schema import schema
from pygate.config.secrets import is_reference, resolve
from pygate.config.units import seconds


@dataclass(frozen=True)
class Settings:
    """`[telemetry]`. Two equal settings export alike, so that a reload need not restart anything."""

    #: Base URL of the collector, without the signal's path; empty: nothing is exported.
    otlp: str
    #: `http` or `grpc`.
    protocol: str
    #: Resolved headers, names in lower case as gRPC wants them.
    headers: tuple[tuple[str, str], ...]
    #: Seconds between two exports of all metrics.
    metrics_interval: float
    #: `stdout`, `stderr`, `off` or a path.
    access_log: str
    #: Access records sent as OTLP logs: `sampled`, `all` or `off`.
    logs: str
    resource: tuple[tuple[str, str], ...]
    environment: str
    #: Routes serve models, whose metrics are made of records.
    models: bool

    @classmethod
    def of(cls, config: dict[str, Any]) -> Settings:
        """Reads the whole configuration. Raises `SecretError` for a header whose reference leads nowhere."""
        given = config.get("telemetry", {})
        defaults = schema()["$defs"]["Telemetry"]["properties"]

        def get(key: str) -> Any:
            return given.get(key, defaults[key].get("default"))

        headers = {k.lower(): resolve(v) if is_reference(v) else v for k, v in get("headers").items()}
        return cls(
            otlp=get("otlp").rstrip("/"),
            protocol=get("protocol"),
            headers=tuple(sorted(headers.items())),
            metrics_interval=max(0.1, seconds(get("metrics_interval"))),
            access_log=get("access_log"),
            logs=get("logs"),
            resource=tuple(sorted(get("resource").items())),
            environment=get("environment"),
            models=serves_models(config),
        )

    @property
    def exports(self) -> bool:
        return bool(self.otlp)

    @property
    def reads_all_records(self) -> bool:
        """Every call is wanted, not only sampled ones."""
        return self.access_log != "off" or (self.exports and self.logs == "all") or self.models

    @property
    def reads_records(self) -> bool:
        return self.exports or self.access_log != "off" or self.models


def route_templates(config: dict[str, Any]) -> dict[str, str]:
    """Route name → its path pattern (`http.route`), for routes that have exactly one."""
    templates = {}
    for route in config.get("routes", []):
        match = route.get("match")
        path = match.get("path") if isinstance(match, dict) else None
        if isinstance(path, list) and len(path) == 1:
            path = path[0]
        if isinstance(path, str) and isinstance(route.get("name"), str):
            templates[route["name"]] = path
    return templates

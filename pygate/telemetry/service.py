"""Telemetry as the control process uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pygate._core import MetricsReader, Shared
from pygate.config.providers import kinds
from pygate.telemetry import prometheus, resource
from pygate.telemetry.exemplars import Exemplars
from pygate.telemetry.families import Family, FamilyBuilder, Point
from pygate.telemetry.pipeline import SIGNALS, Context, Pipeline
from pygate.telemetry.settings import Settings, route_templates


class Telemetry:
    """Owns everything that leaves the gateway about its own work.

    Metrics are read from shared memory; spans, access log and exemplars are made from the audit log's records.
    `update` may be called for every revision; only changed settings restart what runs. Safe to call from any
    thread; `start`, `update` and `stop` may take a moment (see their timeouts), `prometheus` milliseconds.
    """

    def __init__(
        self,
        config: dict[str, Any],
        shared: Shared,
        audit_dir: str | Path,
        *,
        revision: str = "",
        config_dir: Path | None = None,
        extra: Callable[[], Iterable[Family]] = tuple,
    ) -> None:
        """`config` is the whole configuration. `config_dir` is where it lies, to find the commit it comes from;
        `extra` tells further metrics.

        Raises `SecretError` when an OTLP header's reference leads nowhere.
        """
        self._lock = threading.Lock()
        self._extra = extra
        self._config_dir = config_dir
        self._settings = Settings.of(config)
        self._reader = MetricsReader(shared)
        exemplars = Exemplars()
        self._builder = FamilyBuilder(exemplars)
        self._builder.templates = route_templates(config)
        self._context = Context(
            resource=resource.build(self._settings, revision, config_dir),
            templates=self._builder.templates,
            families=self.families,
            audit_dir=Path(audit_dir),
            start_ns=time.time_ns(),
            exemplars=exemplars,
        )
        self._context.genai.configure(kinds(config))
        self._pipeline: Pipeline | None = None

    def start(self) -> None:
        if self._pipeline is None:
            self._pipeline = Pipeline(self._settings, self._context)

    def update(self, config: dict[str, Any], revision: str, timeout: float = 2.0) -> None:
        """Goes on with another revision. Changed settings restart the exporters, which may take `timeout` seconds.

        Raises `SecretError` as the constructor does, and changes nothing then.
        """
        settings = Settings.of(config)
        built = resource.build(settings, revision, self._config_dir)
        templates = route_templates(config)
        self._builder.templates = templates
        self._context.templates = templates
        self._context.resource = built
        self._context.genai.configure(kinds(config))
        if settings != self._settings:
            self._settings = settings
            if self._pipeline is not None:
                self._pipeline.stop(timeout)
                self._pipeline = Pipeline(settings, self._context)

    def stop(self, timeout: float = 5.0) -> None:
        """Sends what there is as far as `timeout` seconds allow, and ends."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.stop(timeout)

    def families(self) -> Sequence[Family]:
        """Every metric at this moment."""
        with self._lock:
            return self._builder.build(
                self._reader.snapshot(), [*self._own(), *self._context.genai.families(), *self._extra()]
            )

    def prometheus(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type; OpenMetrics (with exemplars) when `accept` asks for it."""
        openmetrics = prometheus.accepts_openmetrics(accept)
        body = prometheus.render(self.families(), self._context.resource.attributes, openmetrics)
        return body, prometheus.OPENMETRICS if openmetrics else prometheus.TEXT

    def _own(self) -> list[Family]:
        """Numbers of the telemetry itself."""
        dropped = Family("pygate.telemetry.dropped", "Telemetry that was given up, by where.", "{record}", "counter")
        delivered = Family("pygate.telemetry.delivered", "Telemetry items delivered.", "{record}", "counter")
        failures = Family("pygate.telemetry.failures", "Deliveries that failed.", "{delivery}", "counter")
        for signal in SIGNALS:
            tally = self._context.tallies[signal]
            dropped.points.append(Point({"pygate.signal": signal}, tally.dropped))
            delivered.points.append(Point({"pygate.signal": signal}, tally.delivered))
            failures.points.append(Point({"pygate.signal": signal}, tally.failures))
        dropped.points.append(Point({"pygate.signal": "records"}, self._context.damaged))
        return [dropped, delivered, failures]

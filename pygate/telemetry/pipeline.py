"""What runs while telemetry goes out one way: exporters, their queues and threads, built for one `Settings`.

Threads, all daemons of the control process: one that follows the records, one per signal with a queue, one
that exports the metrics. None of them is ever waited for by a worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from pygate._core import AuditTail
from pygate.telemetry import access, otlp, spans
from pygate.telemetry.batch import Backoff, Batcher, Reporter, Tally
from pygate.telemetry.call import Call
from pygate.telemetry.exemplars import Exemplar, Exemplars, SeriesKey
from pygate.telemetry.families import Family
from pygate.telemetry.settings import Settings

#: Seconds between two looks at a log that had nothing new.
POLL = 0.2
#: Records read at once.
READ = 2000
#: Seconds between two notes of how far the log has been read.
SAVE_MARKS = 5.0

SIGNALS = ("metrics", "traces", "logs", "access-log")


@dataclass
class Context:
    """What outlives a pipeline, and what changes with a revision under a running one."""

    resource: Resource
    #: Route name → `http.route`.
    templates: dict[str, str]
    families: Callable[[], Sequence[Family]]
    audit_dir: Path
    start_ns: int
    exemplars: Exemplars
    tallies: dict[str, Tally] = field(default_factory=lambda: {signal: Tally() for signal in SIGNALS})
    damaged: int = 0

    @property
    def marks(self) -> Path:
        """How far records have been told, so that the next control process goes on there."""
        return self.audit_dir / "telemetry.marks"


class Pipeline:
    """Runs from construction to `stop`."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self.settings = settings
        self._context = context
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._spans: Batcher[ReadableSpan] | None = None
        self._logs: Batcher[ReadableLogRecord] | None = None
        self._lines: Batcher[bytes] | None = None
        self._shutdowns: list[Callable[[], object]] = []
        tallies = context.tallies
        if settings.exports:
            _REASONS.install()
            self._spans = Batcher("traces", self._span_delivery(), tallies["traces"])
            if settings.logs != "off":
                self._logs = Batcher("logs", self._log_delivery(), tallies["logs"])
            self._metrics = otlp.metric_exporter(settings)
            self._shutdowns.append(self._metrics.shutdown)
            self._spawn(self._export_metrics, "metrics")
        if settings.access_log != "off":
            self._access = access.AccessLog(settings.access_log)
            self._lines = Batcher("access log lines", self._access.deliver, tallies["access-log"], first_pause=0.1)
            self._shutdowns.append(self._access.close)
        if settings.reads_records:
            self._spawn(self._follow, "records")
        else:
            # Where reading stopped means nothing once calls went by unread.
            context.marks.unlink(missing_ok=True)

    def stop(self, timeout: float) -> None:
        """Sends what there is as far as `timeout` seconds allow, then ends."""
        deadline = time.monotonic() + timeout

        def left() -> float:
            return max(0.0, deadline - time.monotonic())

        self._ending.set()
        for thread in self._threads:
            thread.join(left())
        for batcher in (self._spans, self._logs, self._lines):
            if batcher is not None:
                batcher.stop(left())
        for shutdown in self._shutdowns:
            shutdown()

    def _spawn(self, run: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=run, name=f"pygate-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    # --- records ---

    def _follow(self) -> None:
        reporter = Reporter("records of the audit log")
        backoff = Backoff()
        tail: AuditTail | None = None
        saved = 0.0
        while True:
            # Read first: what was written before the end is told.
            ending = self._ending.is_set()
            more = False
            try:
                if tail is None:
                    tail = self._open_tail()
                calls, more = tail.calls(READ)
                for told in calls:
                    self._take(Call.of(told))
                self._context.damaged = tail.damaged()
                reporter.succeeded()
                backoff.reset()
                if ending or time.monotonic() - saved > SAVE_MARKS:
                    self._save_marks(tail)
                    saved = time.monotonic()
            except Exception as e:  # the thread must outlive a full disk or a record it does not understand
                reporter.failed(f"{type(e).__name__}: {e}")
                self._ending.wait(backoff.next())
            if ending:
                return
            if not more:
                self._ending.wait(POLL)

    def _open_tail(self) -> AuditTail:
        """From where the last one stopped, else from now on."""
        directory = self._context.audit_dir
        sampled_only = not self.settings.reads_all_records
        try:
            saved = orjson.loads(self._context.marks.read_bytes())
            marks = {str(name): (int(at[0]), int(at[1]), int(at[2])) for name, at in saved.items()}
        except (OSError, ValueError, AttributeError, TypeError, LookupError):
            return AuditTail(directory, "end", sampled_only)
        return AuditTail(directory, marks, sampled_only)

    def _save_marks(self, tail: AuditTail) -> None:
        path = self._context.marks
        if path.parent.is_dir():
            fresh = path.with_suffix(".new")
            fresh.write_bytes(orjson.dumps(tail.marks()))
            fresh.replace(path)

    def _take(self, call: Call) -> None:
        context = self._context
        if self._lines is not None:
            self._lines.put(access.line(call))
        if self._logs is not None and (call.sampled or self.settings.logs == "all"):
            self._logs.put(access.log_record(call, context.templates, context.resource))
        if self._spans is not None and call.sampled:
            made = spans.of_call(call, context.templates, context.resource)
            for span in made:
                self._spans.put(span)
            if made and call.complete:
                key = SeriesKey(call.route, call.known_method, call.scheme, call.status, call.code)
                exemplar = Exemplar(
                    call.duration_ns / 1e9,
                    call.end_ns,
                    int(call.trace_id, 16),
                    int(call.span_id, 16),
                    call.exchange,
                    call.revision,
                )
                context.exemplars.put(key, exemplar)

    # --- exporting ---

    def _span_delivery(self) -> Callable[[Sequence[ReadableSpan]], str | None]:
        exporter = otlp.span_exporter(self.settings)
        self._shutdowns.append(exporter.shutdown)

        def deliver(batch: Sequence[ReadableSpan]) -> str | None:
            return None if exporter.export(batch) is SpanExportResult.SUCCESS else _REASONS.last()

        return deliver

    def _log_delivery(self) -> Callable[[Sequence[ReadableLogRecord]], str | None]:
        exporter = otlp.log_exporter(self.settings)
        self._shutdowns.append(exporter.shutdown)

        def deliver(batch: Sequence[ReadableLogRecord]) -> str | None:
            return None if exporter.export(batch) is LogRecordExportResult.SUCCESS else _REASONS.last()

        return deliver

    def _export_metrics(self) -> None:
        reporter = Reporter("metrics")
        backoff = Backoff()
        tally = self._context.tallies["metrics"]
        pause = self.settings.metrics_interval
        while True:
            ending = self._ending.wait(pause)
            pause = self.settings.metrics_interval
            try:
                families = self._context.families()
                data = otlp.metrics_data(families, self._context.resource, self._context.start_ns, time.time_ns())
                points = sum(len(family.points) + len(family.histograms) for family in families)
                delivered = self._metrics.export(data) is MetricExportResult.SUCCESS
                reason = _REASONS.last()
            except Exception as e:  # an exporter's defect must not end the thread
                delivered, points, reason = False, 0, f"{type(e).__name__}: {e}"
            if delivered:
                tally.delivered += points
                backoff.reset()
                reporter.succeeded()
            else:
                # Nothing is lost for good: values are cumulative and the next export carries them.
                tally.failures += 1
                reporter.failed(reason)
                pause = max(pause, backoff.next())
            if ending:
                return


class _Reasons(logging.Handler):
    """Keeps what the exporters log instead of printing it: their results do not say why they failed."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def install(self) -> None:
        logger = logging.getLogger("opentelemetry.exporter")
        if self not in logger.handlers:
            logger.addHandler(self)
            logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self._local.last = record.getMessage()

    def last(self) -> str:
        """The last thing said in this thread."""
        return getattr(self._local, "last", "no reason given")


_REASONS = _Reasons()

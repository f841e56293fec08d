"""What runs while telemetry goes out one way: exporters, their queues and threads, built for one `Settings`.

Threads, all daemons of the control process: one that follows the records, one per signal with a queue, one
that exports the metrics. None of them is ever waited for by a worker.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from pygate.telemetry import access, otlp, records, spans
from pygate.telemetry.batch import Backoff, Batcher, Reporter, Tally
from pygate.telemetry.call import Call
from pygate.telemetry.exemplars import Exemplar, Exemplars, SeriesKey
from pygate.telemetry.families import Family
from pygate.telemetry.genai import GenAi
from pygate.telemetry.records import RecordReader
from pygate.telemetry.settings import Settings

#: Seconds between two looks at a log that had nothing new.
POLL = 0.2

#: Lines of the access log that may wait; a block that comes while there are fewer is taken whole.
MAX_LINES = 20_000

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
    genai: GenAi = field(default_factory=GenAi)
    tallies: dict[str, Tally] = field(default_factory=lambda: {signal: Tally() for signal in SIGNALS})
    damaged: int = 0


class Pipeline:
    """Runs from construction to `stop`."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self.settings = settings
        self._context = context
        self._ending = threading.Event()
        self._records: threading.Thread | None = None
        self._metrics_thread: threading.Thread | None = None
        self._spans: Batcher[ReadableSpan] | None = None
        self._logs: Batcher[ReadableLogRecord] | None = None
        self._lines: Batcher[access.Lines] | None = None
        self._shutdowns: list[Callable[[], object]] = []
        tallies = context.tallies
        if settings.exports:
            _REASONS.install()
            self._spans = Batcher("traces", self._span_delivery(), tallies["traces"])
            if settings.logs != "off":
                self._logs = Batcher("logs", self._log_delivery(), tallies["logs"])
            self._metrics = otlp.metric_exporter(settings)
            self._shutdowns.append(self._metrics.shutdown)
            self._metrics_thread = _spawn(self._export_metrics, "metrics")
        if settings.access_log != "off":
            self._access = access.AccessLog(settings.access_log)
            self._lines = Batcher(
                "access log lines",
                self._access.deliver,
                tallies["access-log"],
                max_queue=MAX_LINES,
                max_batch=1,
                linger=0.0,
                first_pause=0.1,
                weigh=lambda lines: lines.number,
            )
            self._shutdowns.append(self._access.close)
        if settings.reads_records:
            reader = RecordReader(context.audit_dir, settings)
            # Here, so that no call that begins after this constructor is missed; what fails is tried again.
            with contextlib.suppress(OSError):
                reader.open()
            self._records = _spawn(lambda: self._follow(reader), "records")
        else:
            records.forget(context.audit_dir)

    def stop(self, timeout: float) -> None:
        """Sends what there is as far as `timeout` seconds allow, then ends."""
        deadline = time.monotonic() + timeout

        def left() -> float:
            return max(0.0, deadline - time.monotonic())

        self._ending.set()
        # Records first, as they fill the queues; the metrics thread may hang on its last export.
        if self._records is not None:
            self._records.join(left())
        for batcher in (self._spans, self._logs, self._lines):
            if batcher is not None:
                batcher.stop(left())
        if self._metrics_thread is not None:
            self._metrics_thread.join(left())
        # An exporter in the middle of its own repetitions gives up now.
        for shutdown in self._shutdowns:
            shutdown()
        for batcher in (self._spans, self._logs, self._lines):
            if batcher is not None:
                batcher.join(0.5)

    # --- records ---

    def _follow(self, reader: RecordReader) -> None:
        reporter = Reporter("records of the audit log")
        backoff = Backoff()
        while True:
            # Looked at before reading: what was written before the end is told.
            ending = self._ending.is_set()
            more, pause = False, POLL
            try:
                lines, calls, more, models = reader.read()
                if self._lines is not None and lines.number:
                    # Reading a backlog is faster than writing it down. A log that cannot be written to at all must
                    # not hold up the spans for good.
                    self._lines.put(lines, wait=POLL)
                for told in models:
                    self._context.genai.count(told)
                for call in calls:
                    self._take(call)
                self._context.damaged = max(self._context.damaged, reader.damaged)
                if ending and not more:
                    reader.close()
                    return
                reporter.succeeded()
                backoff.reset()
            except Exception as e:  # the thread must outlive a full disk or a record it does not understand
                reporter.failed(f"{type(e).__name__}: {e}")
                if ending:
                    return
                pause = backoff.next()
            if not more:
                self._ending.wait(pause)

    def _take(self, call: Call) -> None:
        context = self._context
        if self._logs is not None and (call.sampled or self.settings.logs == "all"):
            self._logs.put(access.log_record(call, context.templates, context.resource, context.genai.kinds))
        if self._spans is not None and call.sampled:
            for span in spans.of_call(call, context.templates, context.resource, context.genai.kinds):
                self._spans.put(span)
        if call.sampled and call.complete and call.trace_id:
            key = SeriesKey(call.route, call.known_method, call.scheme, call.status, call.code, call.grpc_status)
            context.exemplars.put(key, Exemplar.of(call))

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


def _spawn(run: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=f"pygate-{name}", daemon=True)
    thread.start()
    return thread


class _Reasons(logging.Handler):
    """Keeps what the exporters log instead of printing it: their results do not say why they failed."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()
        self._anywhere = "no reason given"

    def install(self) -> None:
        logger = logging.getLogger("opentelemetry.exporter")
        if self not in logger.handlers:
            logger.addHandler(self)
            logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "hutdown" not in message:  # what we did ourselves is no reason
            self._local.last = self._anywhere = message

    def last(self) -> str:
        """The last thing said in this thread; in any, as the SDK swallows what it said a moment ago."""
        return getattr(self._local, "last", self._anywhere)


_REASONS = _Reasons()

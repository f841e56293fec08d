"""Families as the SDK's `MetricsData`, and the SDK's OTLP exporters for each signal.

The counters live in shared memory, so there are no instruments and no aggregation here: the data points are
made from what the workers counted. Everything is cumulative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.metrics._internal.exemplar import Exemplar as SdkExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from pygate.telemetry.exemplars import Exemplar
from pygate.telemetry.families import Family
from pygate.telemetry.resource import SCHEMA_URL
from pygate.telemetry.settings import Settings

#: Seconds one export may take, the exporter's own repetitions included.
TIMEOUT = 10.0
#: Data points per request: collectors refuse gRPC messages over 4 MiB.
POINTS_PER_REQUEST = 2000

SCOPE = InstrumentationScope("pygate", schema_url=SCHEMA_URL)
_CUMULATIVE = AggregationTemporality.CUMULATIVE


def metrics_data(families: Sequence[Family], resource: Resource, start_ns: int, now_ns: int) -> MetricsData:
    """All families at one moment; counting began at `start_ns`. Families without points are left out."""
    metrics = []
    for family in families:
        if family.points or family.histograms:
            metrics.append(Metric(family.name, family.description, family.unit, _data(family, start_ns, now_ns)))
    scope = ScopeMetrics(SCOPE, metrics, SCHEMA_URL)
    return MetricsData([ResourceMetrics(resource, [scope], SCHEMA_URL)])


def _data(family: Family, start_ns: int, now_ns: int) -> Sum | Gauge | Histogram:
    if family.kind == "histogram":
        points = [
            HistogramDataPoint(
                attributes=point.attributes,
                start_time_unix_nano=start_ns,
                time_unix_nano=now_ns,
                count=sum(point.buckets),
                sum=point.sum,
                bucket_counts=point.buckets,
                explicit_bounds=family.bounds,
                # Optional in OTLP and not known here.
                min=None,  # type: ignore[arg-type]
                max=None,  # type: ignore[arg-type]
                exemplars=[_exemplar(e) for e in point.exemplars.values()],
            )
            for point in family.histograms
        ]
        return Histogram(points, _CUMULATIVE)
    numbers = [NumberDataPoint(point.attributes, start_ns, now_ns, point.value) for point in family.points]
    if family.kind == "gauge":
        return Gauge(numbers)
    return Sum(numbers, _CUMULATIVE, is_monotonic=family.kind == "counter")


def _exemplar(exemplar: Exemplar) -> SdkExemplar:
    attributes = {"pygate.exchange": exemplar.exchange, "pygate.revision": exemplar.revision}
    return SdkExemplar(attributes, exemplar.value, exemplar.time_ns, exemplar.span_id, exemplar.trace_id)


def metric_exporter(settings: Settings) -> MetricExporter:
    if settings.protocol == "grpc":
        return GrpcMetricExporter(max_export_batch_size=POINTS_PER_REQUEST, **_grpc(settings))
    return HttpMetricExporter(max_export_batch_size=POINTS_PER_REQUEST, **_http(settings, "metrics"))


def span_exporter(settings: Settings) -> SpanExporter:
    if settings.protocol == "grpc":
        return GrpcSpanExporter(**_grpc(settings))
    return HttpSpanExporter(**_http(settings, "traces"))


def log_exporter(settings: Settings) -> LogRecordExporter:
    if settings.protocol == "grpc":
        return GrpcLogExporter(**_grpc(settings))
    return HttpLogExporter(**_http(settings, "logs"))


def _grpc(settings: Settings) -> dict[str, Any]:
    return {
        "endpoint": settings.otlp,
        "insecure": not settings.otlp.startswith("https:"),
        "headers": settings.headers,
        "timeout": TIMEOUT,
    }


def _http(settings: Settings, signal: str) -> dict[str, Any]:
    return {"endpoint": f"{settings.otlp}/v1/{signal}", "headers": dict(settings.headers), "timeout": TIMEOUT}

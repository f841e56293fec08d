"""From the shared counters to metrics with their OpenTelemetry names and attributes.

`Families` is the neutral form that OTLP (`otlp`) and Prometheus (`prometheus`) are both written from.

Rules:

1. Names, units and attributes are those of the HTTP semantic conventions where there are any; all else is
   `pygate.*`.
2. No attribute carries a value that a client can choose freely: methods are known ones or `_OTHER`, routes and
   endpoints come from the configuration.
3. A series that has been there stays, at 0 if need be: a gauge that vanishes keeps its last value in most stores.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from pygate.audit.grpc import SERVER_ERRORS, STATUSES
from pygate.telemetry.exemplars import Exemplar, Exemplars, SeriesKey

Attributes = dict[str, str | int | float | bool | tuple[str, ...]]
Kind = Literal["counter", "updown", "gauge", "histogram"]


@dataclass(slots=True)
class Point:
    attributes: Attributes
    value: int | float


@dataclass(slots=True)
class HistogramPoint:
    attributes: Attributes
    #: In the family's unit.
    sum: int | float
    #: One more than the family's bounds; not cumulative.
    buckets: list[int]
    #: The last sampled call of a bucket, by the bucket's number.
    exemplars: dict[int, Exemplar] = field(default_factory=dict)


@dataclass(slots=True)
class Family:
    name: str
    description: str
    #: UCUM, as OpenTelemetry wants it: `s`, `By`, `{connection}`.
    unit: str
    kind: Kind
    points: list[Point] = field(default_factory=list)
    #: Upper bounds, inclusive.
    bounds: list[float] = field(default_factory=list)
    histograms: list[HistogramPoint] = field(default_factory=list)


class FamilyBuilder:
    """Builds families from snapshots (`_core.MetricsReader`). Keep one: it remembers what must stay at 0."""

    def __init__(self, exemplars: Exemplars) -> None:
        self.templates: dict[str, str] = {}
        self._exemplars = exemplars
        self._active: dict[tuple[str, str], None] = {("GET", "http"): None}

    def build(self, snapshot: bytes, extra: Iterable[Family] = ()) -> list[Family]:
        """Families in a fixed order; those of `extra` are merged into equal names."""
        read = orjson.loads(snapshot)
        families = [
            *self._server(read),
            self._client(read),
            self._active_requests(read),
            *_numbers(read["counters"], "counter"),
            *_numbers(read["gauges"], "updown"),
            _loop_lag(read),
        ]
        by_name = {family.name: family for family in families}
        for family in extra:
            if family.name in by_name:
                by_name[family.name].points += family.points
            else:
                by_name[family.name] = family
        return list(by_name.values())

    def _server(self, read: dict[str, Any]) -> list[Family]:
        seconds = [ns / 1e9 for ns in read["duration_bounds_ns"]]
        sizes = [float(size) for size in read["size_bounds"]]
        duration = Family(
            "http.server.request.duration", "Duration of HTTP server requests.", "s", "histogram", bounds=seconds
        )
        request = Family(
            "http.server.request.body.size", "Size of HTTP server request bodies.", "By", "histogram", bounds=sizes
        )
        response = Family(
            "http.server.response.body.size", "Size of HTTP server response bodies.", "By", "histogram", bounds=sizes
        )
        for series in read["requests"]:
            attributes = self.server_attributes(series)
            key = SeriesKey(
                series["route"],
                series["method"],
                series["scheme"],
                series["status"],
                series["code"],
                series["grpc_status"],
            )
            duration.histograms.append(
                HistogramPoint(
                    attributes,
                    series["duration"]["sum"] / 1e9,
                    series["duration"]["buckets"],
                    # Records do not carry the HTTP version: only the newest one's series shows the exemplars.
                    self._exemplars.of(key) if series["version"] != "1.0" else {},
                )
            )
            for family, name in ((request, "request_size"), (response, "response_size")):
                family.histograms.append(HistogramPoint(attributes, series[name]["sum"], series[name]["buckets"]))
        return [duration, request, response]

    def server_attributes(self, series: dict[str, Any]) -> Attributes:
        if series["overflow"]:
            return {"otel.metric.overflow": True}
        attributes: Attributes = {"http.request.method": series["method"], "url.scheme": series["scheme"]}
        if series["status"]:
            attributes["http.response.status_code"] = series["status"]
        if route := series["route"]:
            if template := self.templates.get(route):
                attributes["http.route"] = template
            attributes["pygate.route"] = route
        if grpc := series["grpc_status"]:
            attributes["rpc.system"] = "grpc"
            attributes["rpc.grpc.status_code"] = STATUSES.index(grpc)
        if error := error_type(series["status"], series["code"], grpc=grpc):
            attributes["error.type"] = error
        attributes["network.protocol.version"] = series["version"]
        return attributes

    def _client(self, read: dict[str, Any]) -> Family:
        seconds = [ns / 1e9 for ns in read["duration_bounds_ns"]]
        family = Family(
            "http.client.request.duration", "Duration of HTTP client requests.", "s", "histogram", bounds=seconds
        )
        for series in read["upstreams"]:
            point = HistogramPoint(
                client_attributes(series), series["duration"]["sum"] / 1e9, series["duration"]["buckets"]
            )
            family.histograms.append(point)
        return family

    def _active_requests(self, read: dict[str, Any]) -> Family:
        family = Family("http.server.active_requests", "Number of active HTTP server requests.", "{request}", "updown")
        now = {(active["method"], active["scheme"]): active["value"] for active in read["active"]}
        self._active.update(dict.fromkeys(now))
        for key in self._active:
            attributes: Attributes = {"http.request.method": key[0], "url.scheme": key[1]}
            family.points.append(Point(attributes, now.get(key, 0)))
        return family


def client_attributes(series: dict[str, Any]) -> Attributes:
    if series["overflow"]:
        return {"otel.metric.overflow": True}
    attributes: Attributes = {"http.request.method": series["method"], "url.scheme": series["scheme"]}
    attributes |= server_address(series["endpoint"])
    attributes["pygate.service"] = series["service"]
    if series["status"]:
        attributes["http.response.status_code"] = series["status"]
    if error := error_type(series["status"], series["code"], client=True):
        attributes["error.type"] = error
    return attributes


def server_address(endpoint: str) -> Attributes:
    """`server.address` and `server.port` of `host:port`, `[v6]:port` or the path of a unix socket."""
    host, colon, port = endpoint.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        return {"server.address": endpoint}
    return {"server.address": host.strip("[]"), "server.port": int(port)}


def error_type(status: int, code: str, client: bool = False, grpc: str = "") -> str:
    """`error.type`: our own error code, else the status if it is an error, else empty.

    HTTP's are errors from 500 (for clients from 400), gRPC's if they are the server's fault (for clients all but `OK`).
    """
    if code:
        return code
    if grpc in SERVER_ERRORS or (client and grpc not in ("", "OK")):
        return grpc
    return str(status) if status >= (400 if client else 500) else ""


def _numbers(numbers: list[dict[str, Any]], kind: Kind) -> list[Family]:
    families: dict[str, Family] = {}
    for number in numbers:
        name = number["name"]
        if name not in families:
            families[name] = Family(name, number["description"], number["unit"], kind)
        attribute = number["attribute"]
        families[name].points.append(Point({attribute[0]: attribute[1]} if attribute else {}, number["value"]))
    return list(families.values())


def _loop_lag(read: dict[str, Any]) -> Family:
    family = Family(
        "pygate.worker.loop.lag.max", "Largest lateness of a worker's event loop in the last 10 to 20 s.", "s", "gauge"
    )
    for worker in read["workers"]:
        family.points.append(Point({"pygate.worker": worker["slot"]}, worker["loop_lag_max_ns"] / 1e9))
    return family

"""All three signals into a real OTLP receiver, over HTTP and over gRPC."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from pygate.config.secrets import SecretError
from pygate.telemetry import batch
from tests.telemetry.conftest import PARENT, SPAN, TRACE, Gateway
from tests.telemetry.receiver import GrpcReceiver, HttpReceiver, plain, wait_for

Receiver = HttpReceiver | GrpcReceiver


def point(metric: Any, **wanted: Any) -> Any:
    """The one data point whose attributes include `wanted` (`__` stands for a dot)."""
    data = getattr(metric, metric.WhichOneof("data"))
    wanted = {name.replace("__", "."): value for name, value in wanted.items()}
    found = [p for p in data.data_points if wanted.items() <= plain(p.attributes).items()]
    assert len(found) == 1, f"{metric.name}: {[plain(p.attributes) for p in data.data_points]}"
    return found[0]


def test_metrics_arrive_by_convention(gateway: Gateway, receiver: Receiver, config: dict[str, Any]) -> None:
    for ms in (1, 2, 30, 20_000):
        gateway.meter.request("orders", duration_ns=ms * 1_000_000, request_bytes=10, response_bytes=2000)
    gateway.meter.request("", "POST", 404, "no-route", duration_ns=500_000)
    gateway.meter.upstream("orders", "127.0.0.1:9000", "GET", 0, "connect-failed", duration_ns=1_000_000)
    gateway.meter.begin("PUT", https=True)
    gateway.meter.add("pygate.guard.findings", 3, attribute="mask")
    gateway.meter.set("pygate.connections.open", 5)
    gateway.meter.loop_lag(2_000_000)
    gateway.telemetry(config, revision="0123456789ab").start()
    wait_for(lambda: bool(receiver.received.metrics()))
    metrics = receiver.received.metrics()

    duration = metrics["http.server.request.duration"]
    assert duration.unit == "s" and duration.histogram.aggregation_temporality == 2
    served = point(duration, pygate__route="orders")
    assert plain(served.attributes) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.route": "/orders/{id}",
        "pygate.route": "orders",
        "network.protocol.version": "1.1",
    }
    assert list(served.explicit_bounds) == [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
    assert (served.count, served.sum) == (4, pytest.approx(20.033))
    assert list(served.bucket_counts) == [2, 0, 0, 1] + [0] * 10 + [1]
    assert not served.HasField("min") and served.start_time_unix_nano < served.time_unix_nano
    missed = plain(point(duration, error__type="no-route").attributes)
    assert missed["http.response.status_code"] == 404 and "http.route" not in missed

    sizes = point(metrics["http.server.response.body.size"], pygate__route="orders")
    assert (metrics["http.server.response.body.size"].unit, sizes.count, sizes.sum) == ("By", 4, 8000)
    client = point(metrics["http.client.request.duration"], error__type="connect-failed")
    assert plain(client.attributes) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": 9000,
        "pygate.service": "orders",
        "error.type": "connect-failed",
    }
    active = metrics["http.server.active_requests"].sum
    assert not active.is_monotonic
    assert point(metrics["http.server.active_requests"], http__request__method="PUT", url__scheme="https").as_int == 1
    found = metrics["pygate.guard.findings"]
    assert found.sum.is_monotonic and point(found, pygate__guard__action="mask").as_int == 3
    assert point(metrics["pygate.connections.open"]).as_int == 5
    assert point(metrics["pygate.worker.loop.lag.max"], pygate__worker=0).as_double == 0.002

    resource = receiver.received.resource("metrics")
    assert (resource["service.name"], resource["pygate.revision"]) == ("pygate", "0123456789ab")
    assert resource["service.version"] and resource["service.instance.id"]


def test_a_sampled_call_becomes_two_spans(gateway: Gateway, receiver: Receiver, config: dict[str, Any]) -> None:
    gateway.telemetry(config, revision="0123456789ab").start()
    finding = ("secrets/aws-access-key", "mask", False, True, 4, 24)
    gateway.call(
        parent_span_id=PARENT,
        endpoint="10.0.0.11:9000",
        attempts=2,
        upstream_ns=1_500_000,
        request_bytes=17,
        findings=[finding],
        client_ip="192.0.2.7",
        client_port=4711,
        identity="key:mobile",
    )
    gateway.call(sampled=False)
    wait_for(lambda: len(receiver.received.spans()) >= 2)
    time.sleep(0.5)
    server, client = receiver.received.spans()

    assert (server.trace_id, server.span_id, server.parent_span_id) == (TRACE, SPAN, PARENT)
    assert (server.name, server.kind, server.status.code) == ("GET /orders/{id}", 2, 0)
    assert server.flags & 0x300 == 0x300, "the parent is known to be remote"
    assert server.end_time_unix_nano - server.start_time_unix_nano == 3_000_000
    assert plain(server.attributes) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/orders/7",
        "server.address": "api.example.com",
        "client.address": "192.0.2.7",
        "client.port": 4711,
        "http.route": "/orders/{id}",
        "http.response.status_code": 200,
        "user_agent.original": "test/1",
        "http.request.body.size": 17,
        "http.response.body.size": 1024,
        "pygate.exchange": "01905d1a-2b3c-7d4e-8f00-000000000001",
        "pygate.revision": "0123456789ab",
        "pygate.entrypoint": "web",
        "pygate.route": "orders",
        "pygate.service": "orders",
        "pygate.identity": "key:mobile",
        "pygate.upstream.attempts": 2,
    }
    assert [(e.name, plain(e.attributes)["pygate.guard.rule"]) for e in server.events] == [
        ("pygate.guard.finding", "secrets/aws-access-key")
    ]

    assert (client.trace_id, client.parent_span_id, client.kind) == (TRACE, SPAN, 3)
    assert client.span_id.hex() == "af9b8b0bcb885608", "as core::observe::attempt_span makes it"
    assert server.start_time_unix_nano <= client.start_time_unix_nano <= client.end_time_unix_nano
    attributes = plain(client.attributes)
    assert (attributes["server.address"], attributes["server.port"]) == ("10.0.0.11", 9000)
    assert attributes["http.request.resend_count"] == 1
    assert receiver.received.resource("traces")["pygate.revision"] == "0123456789ab"


def test_failures_and_odd_methods_in_spans(gateway: Gateway, receiver: Receiver, config: dict[str, Any]) -> None:
    gateway.telemetry(config).start()
    gateway.call(method="BREW", status=504, code="upstream-timeout", endpoint="[::1]:9000", route="either")
    gateway.call(status=404, code="no-route", route="")
    wait_for(lambda: len(receiver.received.spans()) == 3)
    timeout, client, missing = receiver.received.spans()
    attributes = plain(timeout.attributes)
    assert (timeout.name, timeout.status.code, timeout.status.message) == ("HTTP", 2, "upstream-timeout")
    assert (attributes["http.request.method"], attributes["http.request.method_original"]) == ("_OTHER", "BREW")
    assert attributes["error.type"] == "upstream-timeout" and "http.route" not in attributes
    assert plain(client.attributes)["server.address"] == "::1"
    assert "http.response.status_code" not in plain(client.attributes), "504 is ours, nothing came back"
    assert (missing.status.code, plain(missing.attributes)["error.type"]) == (0, "no-route")


def test_access_records_as_logs(gateway: Gateway, receiver: Receiver, config: dict[str, Any]) -> None:
    config["telemetry"]["logs"] = "all"
    gateway.telemetry(config).start()
    gateway.call(sampled=False, status=429, code="rate-limited")
    gateway.call(sampled=True, findings=[("pii/email", "tag", True, False, 0, 9)])
    wait_for(lambda: len(receiver.received.logs()) == 2)
    limited, fine = receiver.received.logs()
    assert (limited.body.string_value, limited.severity_text, limited.flags) == ("GET /orders/7 429", "WARN", 0)
    assert (fine.trace_id, fine.span_id, fine.flags, fine.severity_number) == (TRACE, SPAN, 1, 9)
    assert fine.event_name == "pygate.access" and fine.time_unix_nano == 1_700_000_000_002_000_000
    assert plain(fine.attributes)["pygate.guard.rules"] == ["pii/email"]
    assert plain(limited.attributes)["error.type"] == "rate-limited"


def test_only_sampled_calls_are_sent_by_default(gateway: Gateway, receiver: Receiver, config: dict[str, Any]) -> None:
    gateway.telemetry(config).start()
    for n in range(10):
        gateway.call(sampled=n % 5 == 0)
    wait_for(lambda: len(receiver.received.logs()) == 2 and len(receiver.received.spans()) == 2)
    time.sleep(0.5)
    assert len(receiver.received.logs()) == 2 and len(receiver.received.spans()) == 2


def test_exemplars_lead_from_a_bucket_to_the_trace(
    gateway: Gateway, receiver: Receiver, config: dict[str, Any]
) -> None:
    gateway.meter.request("orders", duration_ns=3_000_000)
    gateway.telemetry(config).start()
    gateway.call(duration_ns=3_000_000)

    def exemplars() -> list[Any]:
        return list(point(receiver.received.metrics()["http.server.request.duration"]).exemplars)

    wait_for(lambda: bool(receiver.received.metrics()) and bool(exemplars()))
    (exemplar,) = exemplars()
    assert (exemplar.trace_id, exemplar.span_id, exemplar.as_double) == (TRACE, SPAN, 0.003)
    assert plain(exemplar.filtered_attributes) == {
        "pygate.exchange": "01905d1a-2b3c-7d4e-8f00-000000000001",
        "pygate.revision": "0123456789ab",
    }


def test_headers_are_references(
    gateway: Gateway,
    receiver: Receiver,
    config: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("COLLECTOR_KEY", "s3cret")
    (tmp_path / "tenant").write_text("blue\n")
    config["telemetry"]["headers"] = {"X-Api-Key": "env:COLLECTOR_KEY", "X-Tenant": f"file:{tmp_path / 'tenant'}"}
    gateway.telemetry(config).start()
    wait_for(lambda: bool(receiver.received.headers))
    headers = receiver.received.headers[0]
    assert (headers["x-api-key"], headers["x-tenant"]) == ("s3cret", "blue")
    monkeypatch.delenv("COLLECTOR_KEY")
    with pytest.raises(SecretError, match="COLLECTOR_KEY"):
        gateway.telemetry(config)


def test_a_new_revision_goes_on_without_a_gap(gateway: Gateway, receiver: Receiver, config: dict[str, Any]) -> None:
    telemetry = gateway.telemetry(config, revision="aaaaaaaaaaaa")
    telemetry.start()
    gateway.call()
    wait_for(lambda: len(receiver.received.spans()) == 1)
    changed = config | {"routes": [{"name": "orders", "match": {"path": "/o/{id}"}}]}
    telemetry.update(changed, "bbbbbbbbbbbb")
    gateway.call()
    wait_for(lambda: len(receiver.received.spans()) == 2)
    assert [span.name for span in receiver.received.spans()] == ["GET /orders/{id}", "GET /o/{id}"]
    assert receiver.received.resource("traces")["pygate.revision"] == "bbbbbbbbbbbb"
    # Other settings: another pipeline, which goes on where the one before stopped.
    telemetry.update(changed | {"telemetry": config["telemetry"] | {"environment": "test"}}, "cccccccccccc")
    for _ in range(3):
        gateway.call()
    wait_for(lambda: len(receiver.received.spans()) == 5)
    assert receiver.received.resource("traces")["deployment.environment.name"] == "test"


def test_a_successor_goes_on_where_its_predecessor_stopped(
    gateway: Gateway, receiver: Receiver, config: dict[str, Any]
) -> None:
    first = gateway.telemetry(config)
    first.start()
    gateway.call()
    second = gateway.telemetry(config)
    second.start()
    gateway.call()
    wait_for(lambda: len(receiver.received.spans()) == 2)
    first.stop()
    for _ in range(3):
        gateway.call()
    wait_for(lambda: len(receiver.received.spans()) == 5)
    time.sleep(0.4)
    assert len({plain(s.attributes)["pygate.exchange"] for s in receiver.received.spans()}) == 5


def test_stopping_sends_what_is_queued(gateway: Gateway, receiver: Receiver, config: dict[str, Any]) -> None:
    telemetry = gateway.telemetry(config)
    telemetry.start()
    for _ in range(20):
        gateway.call()
    telemetry.stop()
    assert len(receiver.received.spans()) == 20
    assert point(receiver.received.metrics()["pygate.audit.records"]).as_int == 0


def test_a_refused_batch_is_sent_again(
    gateway: Gateway, receiver: Receiver, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "FIRST_PAUSE", 0.05)
    config["telemetry"]["metrics_interval"] = "1h"
    config["telemetry"]["logs"] = "off"
    telemetry = gateway.telemetry(config)
    telemetry.start()
    receiver.received.refuse = 1
    gateway.call()
    wait_for(lambda: len(receiver.received.spans()) == 1)
    assert receiver.received.refused == 1
    assert b'pygate_telemetry_failures_total{pygate_signal="traces"} 1' in telemetry.prometheus()[0]


def test_a_dead_collector_costs_a_bounded_queue_and_one_report(
    gateway: Gateway,
    receiver: Receiver,
    config: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver.stop()
    printed: list[logging.LogRecord] = []
    root = logging.Handler()
    root.emit = printed.append  # type: ignore[method-assign, assignment]
    monkeypatch.setattr(logging.getLogger(), "handlers", [root])
    telemetry = gateway.telemetry(config)
    telemetry.start()
    gateway.call()
    begun = time.monotonic()
    time.sleep(0.5)
    telemetry.stop(timeout=1)
    assert time.monotonic() - begun < 4
    text = telemetry.prometheus()[0].decode()
    dropped = {line for line in text.splitlines() if line.startswith("pygate_telemetry_dropped_total")}
    assert 'pygate_telemetry_dropped_total{pygate_signal="traces"} 1' in dropped
    assert {record.name for record in printed} == {"pygate.telemetry"}
    reports = [record.getMessage() for record in printed]
    assert len([r for r in reports if r.startswith("traces cannot be delivered (1 failures so far): ")]) == 1
    assert len(reports) <= 3, "one for each signal"

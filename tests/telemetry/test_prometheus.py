"""The exposition, read back by Prometheus' own Python parsers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pygate.telemetry import prometheus
from tests.telemetry.conftest import ROUTES, Gateway
from tests.telemetry.receiver import wait_for

HOSTILE = 'a"b\\c\nd{e}=,#é'


def samples(text: bytes, openmetrics: bool = False) -> list[Any]:
    parse = parse_openmetrics if openmetrics else parse_text
    return [sample for family in parse(text.decode()) for sample in family.samples]


def value(found: list[Any], name: str, **labels: str) -> float:
    matching = [s for s in found if s.name == name and labels.items() <= s.labels.items()]
    assert len(matching) == 1, matching
    return float(matching[0].value)


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_every_metric_reads_back(gateway: Gateway, openmetrics: bool) -> None:
    gateway.meter.request("orders", duration_ns=3_000_000, request_bytes=5, response_bytes=300)
    gateway.meter.request("orders", duration_ns=20_000_000, response_bytes=300)
    gateway.meter.upstream("orders", "/run/orders.sock", duration_ns=2_000_000)
    gateway.meter.add("pygate.timeouts", 2, attribute="connect")
    telemetry = gateway.telemetry({"routes": ROUTES}, revision="0123456789ab")
    text, kind = telemetry.prometheus("application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain")
    assert kind == (prometheus.OPENMETRICS if openmetrics else prometheus.TEXT)
    found = samples(text, openmetrics)

    name = "http_server_request_duration_seconds"
    labels = {"pygate_route": "orders", "http_route": "/orders/{id}", "http_response_status_code": "200"}
    assert value(found, f"{name}_bucket", le="0.005", **labels) == 1
    assert value(found, f"{name}_bucket", le="0.025", **labels) == 2
    assert value(found, f"{name}_bucket", le="+Inf", **labels) == value(found, f"{name}_count", **labels) == 2
    assert value(found, f"{name}_sum", **labels) == pytest.approx(0.023)
    assert value(found, "http_server_response_body_size_bytes_bucket", le="1024.0", **labels) == 2
    assert value(found, "http_client_request_duration_seconds_count", server_address="/run/orders.sock") == 1
    assert value(found, "pygate_timeouts_total", pygate_phase="connect") == 2
    assert value(found, "target_info", pygate_revision="0123456789ab", service_name="pygate") == 1
    assert value(found, "http_server_active_requests", http_request_method="GET") == 0


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_no_name_can_break_out_of_its_label(gateway: Gateway, openmetrics: bool) -> None:
    gateway.meter.request(HOSTILE)
    telemetry = gateway.telemetry({"telemetry": {"resource": {"9odd-name": HOSTILE}}})
    text = telemetry.prometheus("application/openmetrics-text" if openmetrics else "")[0]
    found = samples(text, openmetrics)
    assert value(found, "http_server_request_duration_seconds_count", pygate_route=HOSTILE) == 1
    assert value(found, "target_info", _9odd_name=HOSTILE) == 1


def test_openmetrics_has_exemplars(gateway: Gateway, tmp_path: Path) -> None:
    gateway.meter.request("orders", duration_ns=3_000_000)
    # Records are read when something goes out: here the access log.
    telemetry = gateway.telemetry({"telemetry": {"access_log": str(tmp_path / "log")}})
    telemetry.start()
    gateway.call(duration_ns=3_000_000)

    def exemplars() -> list[Any]:
        text = telemetry.prometheus("application/openmetrics-text")[0]
        return [s.exemplar for s in samples(text, openmetrics=True) if s.exemplar]

    wait_for(lambda: bool(exemplars()))
    (exemplar,) = exemplars()
    assert exemplar.labels == {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "00f067aa0ba902b7"}
    assert (exemplar.value, float(exemplar.timestamp)) == (0.003, 1_700_000_000.002)
    assert b" # {" not in telemetry.prometheus()[0], "the text format has no exemplars"


def test_gauges_of_a_retired_worker_vanish_and_counters_stay(gateway: Gateway) -> None:
    telemetry = gateway.telemetry({})
    gateway.meter.set("pygate.connections.open", 7)
    gateway.meter.begin("DELETE")
    gateway.meter.add("pygate.connections.accepted", 9)
    assert value(samples(telemetry.prometheus()[0]), "pygate_connections_open") == 7
    gateway.shared.clear_worker(0)
    found = samples(telemetry.prometheus()[0])
    assert value(found, "pygate_connections_open") == 0
    assert value(found, "pygate_connections_accepted_total") == 9
    gauge = value(found, "http_server_active_requests", http_request_method="DELETE")
    assert gauge == 0, "a series that was there stays"

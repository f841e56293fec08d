"""A real gateway with a real collector: what clients did is what comes out."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.control.conftest import gateway as running
from tests.control.conftest import upstream
from tests.control.running import Gateway
from tests.telemetry.receiver import HttpReceiver, plain, wait_for

__all__ = ["running", "upstream"]


@pytest.fixture
def collector() -> Iterator[HttpReceiver]:
    collector = HttpReceiver()
    yield collector
    collector.stop()


def served(gateway: Gateway) -> int:
    """Requests answered 200, by `/metrics`."""
    text = gateway.ask("/metrics")[1].decode()
    samples = [s for family in parse(text) for s in family.samples]
    name = "http_server_request_duration_seconds_count"
    return int(sum(s.value for s in samples if s.name == name and s.labels["http_response_status_code"] == "200"))


def test_requests_come_out_as_metrics_spans_and_lines(running: Gateway, collector: HttpReceiver) -> None:
    log = running.directory / "access.log"
    telemetry = f'[telemetry]\notlp = "{collector.url}"\nsample = 1.0\nmetrics_interval = "200ms"\n'
    running.write(f'{telemetry}access_log = "{log}"\n')
    running.start()
    revision = running.state()["revision"]
    wait_for(lambda: bool(collector.received.metrics()))
    for n in range(20):
        assert running.get(f"/things/{n}")[0] == 200
    wait_for(lambda: len(collector.received.spans()) >= 40)
    assert served(running) == 20

    servers = [s for s in collector.received.spans() if s.kind == 2]
    assert len(servers) == 20 and {s.name for s in servers} == {"GET /**"}
    assert {plain(s.attributes)["url.path"] for s in servers} == {f"/things/{n}" for n in range(20)}
    assert {plain(s.attributes)["pygate.revision"] for s in servers} == {revision}
    by_id = {s.span_id for s in servers}
    assert all(s.parent_span_id in by_id for s in collector.received.spans() if s.kind == 3)

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    wait_for(lambda: len(lines()) == 20)
    assert {line["trace_id"] for line in lines()} == {s.trace_id.hex() for s in servers}

    # A worker that is killed takes no count with it.
    before = running.workers()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    running.wait_for_workers(before)
    assert served(running) == 20
    assert running.get("/again")[0] == 200
    wait_for(lambda: served(running) == 21)

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pygate._core import AuditLogWriter, MetricsWriter, Shared, encode_audit_intent, encode_audit_outcome
from pygate.telemetry import Telemetry
from tests.telemetry.receiver import GrpcReceiver, HttpReceiver, wait_for

TRACE = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
SPAN = bytes.fromhex("00f067aa0ba902b7")
PARENT = bytes.fromhex("b7ad6b7169203331")
REVISION = bytes.fromhex("0123456789ab")


@pytest.fixture(params=[HttpReceiver, GrpcReceiver], ids=["http", "grpc"])
def receiver(request: pytest.FixtureRequest) -> Iterator[HttpReceiver | GrpcReceiver]:
    receiver = request.param()
    yield receiver
    receiver.stop()


def extended(record: bytes, name: str, value: bytes) -> bytes:
    """The record with a typed extension (`core::audit::codec::extend`)."""
    payload = bytes([len(name)]) + name.encode() + value
    length, digits = len(payload), bytearray()
    while length > 0x7F:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    field = bytes([63 << 2 | 1, *digits, length]) + payload
    return (len(record) - 4 + len(field)).to_bytes(4, "little") + record[4:] + field


class Gateway:
    """What telemetry reads, written as workers write it: shared memory and an audit log."""

    def __init__(self, path: Path) -> None:
        self.audit_dir = path / "audit"
        self.shared = Shared.create(path / "shared", 2)
        self.meter = MetricsWriter(self.shared, 0)
        self._audit = AuditLogWriter(self.audit_dir, flush_interval=0.002)
        self._running: list[Telemetry] = []
        self._calls = 0

    def telemetry(self, config: dict[str, Any], **named: Any) -> Telemetry:
        telemetry = Telemetry(config, self.shared, self.audit_dir, **named)
        self._running.append(telemetry)
        return telemetry

    def call(
        self,
        *,
        sampled: bool = True,
        exchange: bytes | None = None,
        intent: bool = True,
        llm: dict[str, Any] | None = None,
        **facts: Any,
    ) -> bytes:
        """Writes one call and waits until it is on disk; returns its exchange id."""
        self._calls += 1
        exchange = exchange or bytes.fromhex("01905d1a2b3c7d4e8f00") + self._calls.to_bytes(6, "big")
        asked: dict[str, Any] = {"route": "orders", "service": "orders", "host": "api.example.com", "path": "/orders/7"}
        asked |= {"trace_id": TRACE, "span_id": SPAN, "revision": REVISION, "user_agent": "test/1"}
        outcome_keys = ["duration_ns", "status", "code", "endpoint", "attempts", "upstream_ns", "findings"]
        outcome_keys += ["request_bytes", "response_bytes", "truncated"]
        outcome: dict[str, Any] = {"duration_ns": 3_000_000, "status": 200, "response_bytes": 1024}
        outcome |= {name: facts.pop(name) for name in outcome_keys if name in facts}
        if intent:
            record = encode_audit_intent(exchange, 1_700_000_000_000_000_000, sampled=sampled, **(asked | facts))
            self._audit.append(record, 1, False)
        record = encode_audit_outcome(exchange, 1_700_000_000_002_000_000, **outcome)
        last = self._audit.append(extended(record, "llm", orjson.dumps(llm)) if llm else record, 1, True)
        assert last is not None
        wait_for(lambda: self._audit.durable_seq() >= last)
        return exchange

    def close(self) -> None:
        for telemetry in self._running:
            telemetry.stop(0.2)
        self._audit.flush_and_stop()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path)
    yield gateway
    gateway.close()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_") or name.endswith(("_SHA", "_COMMIT", "_VCS_REVISION")):
            monkeypatch.delenv(name)


ROUTES: list[dict[str, Any]] = [
    {"name": "orders", "match": {"path": "/orders/{id}"}, "service": "orders"},
    {"name": "either", "match": {"path": ["/a", "/b"]}, "service": "orders"},
]


@pytest.fixture
def config(receiver: HttpReceiver | GrpcReceiver) -> dict[str, Any]:
    telemetry = {"otlp": receiver.url, "protocol": receiver.protocol, "metrics_interval": "100ms"}
    return {"routes": ROUTES, "telemetry": telemetry}

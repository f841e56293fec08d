"""The access log's lines as Rust renders them, beside the same lines rendered in Python from the calls' dicts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pygate._core import AuditLogWriter, AuditTail, encode_audit_intent, encode_audit_outcome
from pygate.telemetry.call import Call
from tests.telemetry.conftest import PARENT, REVISION, SPAN, TRACE
from tests.telemetry.receiver import wait_for

UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def expected(call: Call) -> bytes:
    time = datetime.fromtimestamp(call.start_ns // 1_000_000 / 1e3, UTC).isoformat(timespec="milliseconds")
    fields: dict[str, Any] = {
        "time": time.replace("+00:00", "Z"),
        "exchange": call.exchange,
        "revision": call.revision,
        "trace_id": call.trace_id,
        "span_id": call.span_id,
        "sampled": call.sampled,
        "entrypoint": call.entrypoint,
        "route": call.route,
        "service": call.service,
        "endpoint": call.endpoint,
        "client": call.client_ip,
        "identity": call.identity,
        "method": call.method,
        "scheme": call.scheme,
        "host": call.host,
        "path": call.path,
        "status": call.status,
        "error": call.code or ("" if call.complete else "unknown-outcome"),
        "duration_ms": round(call.duration_ns / 1e6, 3),
        "upstream_ms": round(call.upstream_ns / 1e6, 3),
        "attempts": call.attempts,
        "request_bytes": call.request_bytes,
        "response_bytes": call.response_bytes,
        "truncated": call.truncated,
        "user_agent": call.user_agent,
    }
    if call.findings:
        fields["findings"] = [
            {
                "rule": finding["rule"],
                "action": finding["action"],
                "shadow": finding["shadow"],
                "side": "response" if finding["response"] else "request",
            }
            for finding in call.findings
        ]
    if call.grpc_status:
        fields["grpc_status"] = call.grpc_status
    written = orjson.dumps(fields).decode()
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", written).encode() + b"\n"


class Log:
    """One log with two followers: one renders, the other tells dicts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.writer = AuditLogWriter(directory, flush_interval=0.001)
        self.rendered = AuditTail(directory, "begin")
        self.told = AuditTail(directory, "begin")

    def write(self, *records: bytes) -> None:
        last = self.writer.append(b"".join(records), len(records), True)
        assert last is not None
        wait_for(lambda: self.writer.durable_seq() >= last)

    def both(self) -> tuple[bytes, bytes]:
        """The lines of what is new, from Rust and from Python."""
        lines, count, _, more = self.rendered.access()
        calls = self.told.calls()[0]
        assert count == len(calls) == lines.count(b"\n") and not more
        return lines, b"".join(expected(Call.of(call)) for call in calls)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.writer.flush_and_stop()


NOW = 1_790_000_000_123_456_789
HOSTILE = '/x"}\r\n{"status":200}\t\b\f\0\x1b[2J\x7f\x9b31m\u061c\u2028\u202e\u2066\ufeffé漢\U0001f600\\'
FINDINGS = [
    ("pii/iban", "block", False, False, 0, 22),
    ('a"\n', "tag", True, True, 1, 2),
    ("c", "mask", False, True, 0, 1),
]
INTENTS: list[dict[str, Any]] = [
    {},
    {"trace_id": TRACE, "span_id": SPAN, "parent_span_id": PARENT, "revision": REVISION, "sampled": True},
    {"client_ip": "2001:db8::1", "client_port": 65535, "https": True, "identity": "key:mobile"},
    {"client_ip": "::ffff:192.0.2.255", "method": "BREW", "host": "[::1]:8080", "user_agent": "x" * 5000},
    dict.fromkeys(("route", "service", "host", "path", "identity", "entrypoint", "user_agent", "method"), HOSTILE),
]
OUTCOMES: list[dict[str, Any]] = [
    {"duration_ns": 3_000_000},
    {"duration_ns": 999, "upstream_ns": 1_234_567, "status": 0, "attempts": 0},
    {
        "duration_ns": 59_999_999_999,
        "upstream_ns": 10_100_000,
        "status": 502,
        "code": "connect-failed",
        "attempts": 255,
    },
    {"grpc_status": 0},
    {"grpc_status": 16, "findings": FINDINGS, "code": "unauthenticated"},
    {"request_bytes": 2**64 - 1, "response_bytes": 10, "truncated": True, "endpoint": "10.0.0.11:9000"},
    {"findings": FINDINGS, "code": HOSTILE, "endpoint": HOSTILE},
    {"revision": REVISION, "client_ip": "203.0.113.9", "entrypoint": "tls", "status": 400, "code": "bad-request"},
]


def test_lines_are_those_of_the_dicts(log: Log) -> None:
    n = 0
    for intent in [*INTENTS, None]:
        for outcome in OUTCOMES:
            n += 1
            exchange = n.to_bytes(16, "big")
            records = [encode_audit_outcome(exchange, NOW + n, **outcome)]
            if intent is not None:
                records.insert(0, encode_audit_intent(exchange, NOW, **intent))
            log.write(*records)
    lines, want = log.both()
    assert lines.splitlines() == want.splitlines() and len(lines.splitlines()) == n


@pytest.mark.parametrize(
    "ns",
    [
        0,
        951_782_399_999_999_999,
        951_782_400_000_000_000,
        1_709_164_800_000_000_000,
        4_107_542_399_999_000_000,
        4_107_542_400_000_000_000,
        13_569_465_600_000_000_000,
    ],
)
def test_times(log: Log, ns: int) -> None:
    log.write(encode_audit_intent(bytes(16), ns), encode_audit_outcome(bytes(16), ns))
    lines, want = log.both()
    assert lines == want


def test_a_call_without_outcome_is_told_once_its_worker_is_replaced(log: Log) -> None:
    log.write(encode_audit_intent(bytes(16), NOW, sampled=True))
    assert log.both() == (b"", b"")
    log.writer.flush_and_stop()
    log.writer = AuditLogWriter(log.directory, flush_interval=0.001)
    log.write(encode_audit_intent(b"1" * 16, NOW))
    # The writer is the same process, so nothing tells that the first call was lost; a second intent of its id does.
    log.write(encode_audit_intent(bytes(16), NOW))
    lines, want = log.both()
    assert lines == want and orjson.loads(lines)["error"] == "unknown-outcome"


PLACE = b"placeholder" * 4


@given(st.lists(st.binary(max_size=len(PLACE)), min_size=1, max_size=40))
@example([bytes([n]) * 9 + b"\xc3\xa9" for n in range(256)])
@example([b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xc2", b"\xe2\x80\xa8\xe2\x80\xae", b"a" * 15 + b"\x80" + b"b" * 16])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(log: Log, values: list[bytes]) -> None:
    """A path and a route of any bytes: the wire does not promise an encoding."""
    records = []
    for n, value in enumerate(values):
        exchange = n.to_bytes(16, "big")
        intent = encode_audit_intent(exchange, NOW, path=PLACE.decode(), route=PLACE.decode())
        records += [intent.replace(PLACE, value.ljust(len(PLACE), b"/")), encode_audit_outcome(exchange, NOW)]
    log.write(*records)
    lines, want = log.both()
    assert lines == want
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", lines)


def test_a_malformed_record_is_counted_and_the_rest_told(log: Log) -> None:
    intent = encode_audit_intent(bytes(16), NOW, path=PLACE.decode())
    cut = intent[:-1]
    log.write((len(cut) - 4).to_bytes(4, "little") + cut[4:])
    log.write(
        encode_audit_outcome(bytes(16), NOW), encode_audit_intent(b"1" * 16, NOW), encode_audit_outcome(b"1" * 16, NOW)
    )
    lines, count, _, _ = log.rendered.access()
    assert count == 1 and orjson.loads(lines)["exchange"].startswith("31313131")
    assert log.rendered.damaged() == 1


def test_only_wanted_calls_become_dicts(log: Log) -> None:
    for n in range(20):
        exchange = n.to_bytes(16, "big")
        intent = encode_audit_intent(exchange, NOW, sampled=n % 4 == 0, route="r")
        log.write(intent, encode_audit_outcome(exchange, NOW + n, duration_ns=1 + (n == 4) * 70_000_000))

    def told(**named: Any) -> tuple[int, list[int]]:
        _, count, calls, _ = AuditTail(log.directory, "begin").access(**named)
        return count, [call["end_ns"] - NOW for call in calls]

    assert told() == (20, [0, 4, 8, 12, 16])
    assert told(wanted="all", lines=False) == (0, list(range(20)))
    assert told(wanted="latest") == (20, [16, 4]), "the last of each duration bucket"
    with pytest.raises(ValueError, match="wanted"):
        told(wanted="some")

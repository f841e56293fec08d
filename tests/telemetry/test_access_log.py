"""The JSON access log: complete, one line per call whatever the call holds, and safe to look at."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.telemetry.conftest import Gateway
from tests.telemetry.receiver import wait_for


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(text) for text in path.read_bytes().splitlines()] if path.exists() else []


def test_a_call_is_one_line(gateway: Gateway, tmp_path: Path) -> None:
    log = tmp_path / "logs/access.log"
    gateway.telemetry({"telemetry": {"access_log": str(log)}}).start()
    finding = ("pii/iban", "block", False, False, 0, 22)
    gateway.call(sampled=False, status=403, code="guard-blocked", findings=[finding], client_ip="2001:db8::1")
    gateway.call(intent=False, status=400, code="bad-request", duration_ns=1_000_000, response_bytes=0)
    wait_for(lambda: len(lines(log)) == 2)
    blocked, malformed = lines(log)
    assert blocked == {
        "time": "2023-11-14T22:13:19.999Z",
        "exchange": "01905d1a-2b3c-7d4e-8f00-000000000001",
        "revision": "0123456789ab",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "00f067aa0ba902b7",
        "sampled": False,
        "entrypoint": "web",
        "route": "orders",
        "service": "orders",
        "endpoint": "",
        "client": "2001:db8::1",
        "identity": "",
        "method": "GET",
        "scheme": "http",
        "host": "api.example.com",
        "path": "/orders/7",
        "status": 403,
        "error": "guard-blocked",
        "duration_ms": 3.0,
        "upstream_ms": 0.0,
        "attempts": 1,
        "request_bytes": 0,
        "response_bytes": 1024,
        "truncated": False,
        "user_agent": "test/1",
        "findings": [{"rule": "pii/iban", "action": "block", "shadow": False, "side": "request"}],
    }
    assert (malformed["status"], malformed["error"], malformed["method"]) == (400, "bad-request", "")
    assert log.stat().st_mode & 0o777 == 0o640


HOSTILE = '/x"}\r\n{"status":200}\t\0\x1b[2J\x7f\x9b31m\u2028\u202e\u2066é漢'


def test_no_value_ends_a_line_or_reaches_a_terminal(gateway: Gateway, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    gateway.telemetry({"telemetry": {"access_log": str(log)}}).start()
    gateway.call(path=HOSTILE, user_agent=HOSTILE, host=HOSTILE, route=HOSTILE)
    wait_for(lambda: bool(lines(log)))
    written = log.read_bytes().decode()
    assert written.count("\n") == 1 and written.endswith("\n")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", written)
    (told,) = lines(log)
    assert (told["path"], told["user_agent"], told["host"]) == (HOSTILE, HOSTILE, HOSTILE)
    assert "é漢" in written, "what is harmless is written as it is"


def test_a_moved_file_is_made_anew(gateway: Gateway, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    gateway.telemetry({"telemetry": {"access_log": str(log)}}).start()
    gateway.call()
    wait_for(lambda: len(lines(log)) == 1)
    log.rename(tmp_path / "access.log.1")
    gateway.call()
    wait_for(lambda: len(lines(log)) == 1)
    assert len(lines(tmp_path / "access.log.1")) == 1


def test_lines_that_could_not_be_written_come_later(gateway: Gateway, tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.write_text("in the way")
    telemetry = gateway.telemetry({"telemetry": {"access_log": str(directory / "access.log")}})
    telemetry.start()
    gateway.call()
    wait_for(lambda: b'failures_total{pygate_signal="access-log"} 0' not in telemetry.prometheus()[0])
    directory.unlink()
    wait_for(lambda: len(lines(directory / "access.log")) == 1)


def test_standard_output(gateway: Gateway, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    telemetry = gateway.telemetry({"telemetry": {"access_log": "stdout"}})
    telemetry.start()
    gateway.call(sampled=False)
    telemetry.stop()
    sys.stdout.flush()
    assert orjson.loads(capfdbinary.readouterr().out)["route"] == "orders"


def test_nothing_is_read_when_nothing_is_made_of_it(gateway: Gateway) -> None:
    telemetry = gateway.telemetry({"telemetry": {"access_log": "off"}})
    telemetry.start()
    gateway.call()
    assert "pygate-records" not in {thread.name for thread in threading.enumerate()}
    assert not (gateway.audit_dir / "telemetry.lock").exists()
    telemetry.stop()

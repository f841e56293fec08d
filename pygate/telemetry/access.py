"""The access log: one JSON object per call and line, and the same as OTLP log records.

Rules:

1. One call, one line: no value can end a line or move a terminal's cursor. Control characters (C0, DEL, C1),
   line and paragraph separators and text-direction marks are written as JSON escapes.
2. A file that was moved away (logrotate) is made anew; nothing is written to the old one after that.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import TraceFlags

from pygate.telemetry.call import Call
from pygate.telemetry.otlp import SCOPE
from pygate.telemetry.spans import attributes

# orjson escapes C0 itself.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def line(call: Call) -> bytes:
    """One line of the access log, with its line end."""
    start = call.start_ns
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(start / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
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
        "duration_ms": _ms(call.duration_ns),
        "upstream_ms": _ms(call.upstream_ns),
        "attempts": call.attempts,
        "request_bytes": call.request_bytes,
        "response_bytes": call.response_bytes,
        "truncated": call.truncated,
        "user_agent": call.user_agent,
    }
    if call.findings:
        fields["findings"] = [
            {
                "rule": finding.get("rule", ""),
                "action": finding.get("action", ""),
                "shadow": bool(finding.get("shadow")),
                "side": "response" if finding.get("response") else "request",
            }
            for finding in call.findings
        ]
    written = orjson.dumps(fields)
    if b"\x7f" in written or not written.isascii():
        written = _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", written.decode()).encode()
    return written + b"\n"


def log_record(call: Call, templates: Mapping[str, str], resource: Resource) -> ReadableLogRecord:
    """The call as an OTLP log record, tied to its trace."""
    severity, name = SeverityNumber.INFO, "INFO"
    if call.status >= 500 or call.status == 0:
        severity, name = SeverityNumber.ERROR, "ERROR"
    elif call.status >= 400:
        severity, name = SeverityNumber.WARN, "WARN"
    known = attributes(call, templates.get(call.route, ""))
    if call.findings:
        known["pygate.guard.rules"] = tuple(str(finding.get("rule", "")) for finding in call.findings)
    record = LogRecord(
        timestamp=call.end_ns or call.intent_ns,
        observed_timestamp=time.time_ns(),
        severity_number=severity,
        severity_text=name,
        body=f"{call.method or '-'} {call.path or '-'} {call.status or '-'}",
        attributes=known,
        event_name="pygate.access",
    )
    if call.trace_id.strip("0") and call.span_id.strip("0"):
        record.trace_id = int(call.trace_id, 16)
        record.span_id = int(call.span_id, 16)
        record.trace_flags = TraceFlags(TraceFlags.SAMPLED if call.sampled else TraceFlags.DEFAULT)
    return ReadableLogRecord(record, resource, SCOPE)


class AccessLog:
    """Where lines go: `stdout`, `stderr` or a file."""

    def __init__(self, target: str) -> None:
        self._path = None if target in ("stdout", "stderr") else Path(target)
        self._file: BinaryIO | None = None
        if self._path is None:
            self._file = sys.stdout.buffer if target == "stdout" else sys.stderr.buffer

    def deliver(self, lines: Sequence[bytes]) -> str | None:
        """Writes a batch; why it failed, or None."""
        try:
            file = self._open()
            file.write(b"".join(lines))
            file.flush()
        except (OSError, ValueError) as e:
            if self._path is not None:
                self.close()
            return f"access log {self._path or 'on a standard stream'}: {getattr(e, 'strerror', None) or e}"
        return None

    def close(self) -> None:
        if self._path is not None and self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):  # what could not be written has been reported
                file.close()

    def _open(self) -> BinaryIO:
        if self._path is not None and self._file is not None and not self._in_place(self._file):
            self.close()
        if self._file is None:
            assert self._path is not None
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(
                os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640), "ab"
            )
        return self._file

    def _in_place(self, file: BinaryIO) -> bool:
        """Whether the path still leads to the open file."""
        try:
            assert self._path is not None
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except OSError:
            return False


def _ms(ns: int) -> float:
    return round(ns / 1e6, 3)

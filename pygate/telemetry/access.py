"""The access log: where its lines go, and the same calls as OTLP log records.

Rules:

1. Lines come rendered from `AuditTail.access` (`rust/py/src/access_lines.rs`), a block of them at a time; one block
   is one write.
2. A file that was moved away (logrotate) is made anew; nothing is written to the old one after that.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import TraceFlags

from pygate.telemetry.call import Call
from pygate.telemetry.otlp import SCOPE
from pygate.telemetry.spans import attributes


class Lines(NamedTuple):
    """Whole lines, one after the other, and how many."""

    text: bytes
    number: int


def log_record(
    call: Call, templates: Mapping[str, str], resource: Resource, kinds: Mapping[str, str] | None = None
) -> ReadableLogRecord:
    """The call as an OTLP log record, tied to its trace. `kinds`: the kind of every provider of models."""
    severity, name = SeverityNumber.INFO, "INFO"
    if call.failed:
        severity, name = SeverityNumber.ERROR, "ERROR"
    elif call.status >= 400 or call.grpc_status not in ("", "OK", "CANCELLED"):
        severity, name = SeverityNumber.WARN, "WARN"
    known = attributes(call, templates.get(call.route, ""))
    if call.llm is not None and call.llm.target:
        known |= call.llm.provider_leg(kinds or {}, call.before_ns)
    if call.findings:
        known["pygate.guard.rules"] = tuple(str(finding.get("rule", "")) for finding in call.findings)
    record = LogRecord(
        timestamp=call.end_ns or call.intent_ns,
        observed_timestamp=time.time_ns(),
        severity_number=severity,
        severity_text=name,
        body=f"{call.method or '-'} {call.path or '-'} {call.grpc_status or call.status or '-'}",
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

    def deliver(self, blocks: Sequence[Lines]) -> str | None:
        """Writes a batch; why it failed, or None."""
        try:
            file = self._open()
            file.write(b"".join([block.text for block in blocks]))
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

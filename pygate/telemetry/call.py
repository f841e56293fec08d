"""One call as the audit log tells it, with defaults for what a record leaves out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pygate.audit.grpc import SERVER_ERRORS
from pygate.telemetry.llm import Llm

#: Methods that may be used as a metric or span name; others become `_OTHER` there.
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"})


@dataclass(frozen=True, slots=True)
class Call:
    """Times in nanoseconds; wall times since the Unix epoch."""

    exchange: str
    #: False: the worker died before the outcome was written; nothing is known of it.
    complete: bool
    sampled: bool
    revision: str = ""
    entrypoint: str = ""
    route: str = ""
    service: str = ""
    #: Empty for a request that could not be parsed.
    method: str = ""
    scheme: str = "http"
    host: str = ""
    path: str = ""
    client_ip: str = ""
    client_port: int = 0
    identity: str = ""
    user_agent: str = ""
    trace_id: str = ""
    span_id: str = ""
    #: Empty when the trace began here.
    parent_span_id: str = ""
    #: When the intent was written: the request's head was complete, nothing had gone upstream.
    intent_ns: int = 0
    end_ns: int = 0
    duration_ns: int = 0
    status: int = 0
    code: str = ""
    endpoint: str = ""
    attempts: int = 0
    upstream_ns: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    truncated: bool = False
    #: Name of a gRPC call's status (`UNAVAILABLE`); empty for other requests.
    grpc_status: str = ""
    findings: tuple[dict[str, Any], ...] = field(default=())
    #: What it came to, if it was a call of a model.
    llm: Llm | None = None

    @classmethod
    def of(cls, told: dict[str, Any]) -> Call:
        """From a dict of `AuditTail.calls`."""
        get = told.get
        parent = get("parent_span_id", "")
        return cls(
            exchange=get("exchange", ""),
            complete=get("complete", False),
            sampled=get("sampled", False),
            revision=get("revision", ""),
            entrypoint=get("entrypoint", ""),
            route=get("route", ""),
            service=get("service", ""),
            method=get("method", ""),
            scheme="https" if get("https") else "http",
            host=get("host", ""),
            path=get("path", ""),
            client_ip=get("client_ip", ""),
            client_port=get("client_port", 0),
            identity=get("identity", ""),
            user_agent=get("user_agent", ""),
            trace_id=get("trace_id", ""),
            span_id=get("span_id", ""),
            parent_span_id="" if parent.strip("0") == "" else parent,
            intent_ns=get("start_ns", 0),
            end_ns=get("end_ns", 0),
            duration_ns=get("duration_ns", 0),
            status=get("status", 0),
            code=get("code", ""),
            endpoint=get("endpoint", ""),
            attempts=get("attempts", 0),
            upstream_ns=get("upstream_ns", 0),
            request_bytes=get("request_bytes", 0),
            response_bytes=get("response_bytes", 0),
            truncated=get("truncated", False),
            grpc_status=get("grpc_status", ""),
            findings=tuple(get("findings", ())),
            llm=Llm.of(get("llm")),
        )

    @property
    def start_ns(self) -> int:
        """First byte of the request, as far as known."""
        return self.end_ns - self.duration_ns if self.end_ns else self.intent_ns

    @property
    def before_ns(self) -> int:
        """What passed between the first byte of the request and its way upstream."""
        return max(self.intent_ns - self.start_ns, 0) if self.intent_ns else 0

    @property
    def failed(self) -> bool:
        """It ended in an error of the server's side, or without an answer."""
        return self.status >= 500 or self.status == 0 or self.grpc_status in SERVER_ERRORS

    @property
    def known_method(self) -> str:
        return self.method if self.method in KNOWN_METHODS else "_OTHER"

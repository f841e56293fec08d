"""Calls as spans: a server span for the exchange and, below it, a client span for the upstream attempt.

Ids and the sampling decision are the worker's: it sent them upstream before the call was over. Attributes follow
the HTTP and, for gRPC calls, the RPC semantic conventions; the client span of a call of a model is an inference span of
the GenAI conventions. The query, credentials and bodies are not in the records
and so never here.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from pygate.audit.grpc import STATUSES
from pygate.telemetry.call import Call
from pygate.telemetry.families import Attributes, error_type, server_address
from pygate.telemetry.otlp import SCOPE

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def of_call(
    call: Call, templates: Mapping[str, str], resource: Resource, kinds: Mapping[str, str] | None = None
) -> list[ReadableSpan]:
    """The spans of a sampled call; none when it has no valid ids. `kinds`: the kind of every provider of models."""
    context = _context(call.trace_id, call.span_id, remote=False)
    if context is None:
        return []
    parent = _context(call.trace_id, call.parent_span_id, remote=True) if call.parent_span_id else None
    template = templates.get(call.route, "")
    start = call.start_ns
    server = ReadableSpan(
        name=f"{span_method(call)} {template}".rstrip(),
        context=context,
        parent=parent,
        resource=resource,
        attributes=attributes(call, template),
        events=[_finding(finding, call.end_ns or start) for finding in call.findings],
        kind=SpanKind.SERVER,
        status=_status(call, failed=call.failed),
        start_time=start,
        end_time=max(call.end_ns, start),
        instrumentation_scope=SCOPE,
    )
    return [server, _client(call, context, resource, kinds or {})] if call.endpoint else [server]


def attributes(call: Call, template: str) -> Attributes:
    """What is known of an exchange, by convention names; empty facts are left out."""
    known: Attributes = {
        "http.request.method": call.known_method,
        "http.request.method_original": call.method if call.method != call.known_method else "",
        "url.scheme": call.scheme,
        "url.path": call.path,
        "server.address": call.host,
        "client.address": call.client_ip,
        "client.port": call.client_port,
        "http.route": template,
        "http.response.status_code": call.status,
        "user_agent.original": call.user_agent,
        "error.type": error_type(call.status, call.code, grpc=call.grpc_status)
        or ("" if call.complete else "unknown-outcome"),
        "http.request.body.size": call.request_bytes,
        "http.response.body.size": call.response_bytes,
        "pygate.exchange": call.exchange,
        "pygate.revision": call.revision,
        "pygate.entrypoint": call.entrypoint,
        "pygate.route": call.route,
        "pygate.service": call.service,
        "pygate.identity": call.identity,
        "pygate.upstream.attempts": call.attempts,
        "pygate.truncated": call.truncated,
    }
    more = call.llm.governed() if call.llm is not None else rpc(call)
    return {name: value for name, value in known.items() if value} | more


def rpc(call: Call) -> Attributes:
    """What the conventions for gRPC add. The path is `/SERVICE/METHOD`."""
    if not call.grpc_status:
        return {}
    service, _, method = call.path.removeprefix("/").rpartition("/")
    known: Attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    return {name: value for name, value in known.items() if value} | {
        "rpc.grpc.status_code": STATUSES.index(call.grpc_status)
    }


def span_method(call: Call) -> str:
    return "HTTP" if call.known_method == "_OTHER" else call.known_method


def attempt_span_id(span_id: str) -> str:
    """The client span's id, made from the exchange's (`core::observe::attempt_span`): equal in worker and here."""
    mixed = int(span_id, 16) * 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF_FFFF
    return f"{mixed ^ mixed >> 32 or 1:016x}"


def _client(call: Call, parent: SpanContext, resource: Resource, kinds: Mapping[str, str]) -> ReadableSpan:
    """The upstream leg, from the intent (nothing had been sent yet) to the end of the answer."""
    error = error_type(call.status, call.code, client=True, grpc=call.grpc_status)
    name, more = span_method(call), rpc(call)
    if call.llm is not None and call.llm.target:
        error = call.llm.failure(call.code, call.status)
        name, more = f"{call.llm.operation_name} {call.llm.model}", call.llm.provider_leg(kinds, call.before_ns)
    known: Attributes = {
        "http.request.method": call.known_method,
        **server_address(call.endpoint),
        "url.scheme": "http",
        "http.response.status_code": call.status if not call.code else 0,
        "error.type": error,
        "http.request.resend_count": max(call.attempts - 1, 0),
        "pygate.service": call.service,
        "pygate.upstream.wait": call.upstream_ns / 1e9,
    }
    context = SpanContext(parent.trace_id, int(attempt_span_id(call.span_id), 16), False, _SAMPLED)
    start = max(call.intent_ns, call.start_ns)
    return ReadableSpan(
        name=name,
        context=context,
        parent=parent,
        resource=resource,
        attributes={name: value for name, value in known.items() if value} | more,
        kind=SpanKind.CLIENT,
        status=_status(call, failed=bool(error)),
        start_time=start,
        end_time=max(call.end_ns, start),
        instrumentation_scope=SCOPE,
    )


def _context(trace_id: str, span_id: str, remote: bool) -> SpanContext | None:
    try:
        context = SpanContext(int(trace_id, 16), int(span_id, 16), remote, _SAMPLED)
    except ValueError:
        return None
    return context if context.is_valid else None


def _status(call: Call, failed: bool) -> Status:
    return Status(StatusCode.ERROR, call.code or None) if failed else Status(StatusCode.UNSET)


def _finding(finding: Mapping[str, object], time_ns: int) -> Event:
    known: Attributes = {
        "pygate.guard.rule": str(finding.get("rule", "")),
        "pygate.guard.action": str(finding.get("action", "")),
        "pygate.guard.shadow": bool(finding.get("shadow")),
        "pygate.guard.side": "response" if finding.get("response") else "request",
    }
    return Event("pygate.guard.finding", known, time_ns)

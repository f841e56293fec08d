"""Types of the Rust extension (`rust/py`)."""

import asyncio
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict

__version__: str

_Place = tuple[int, int, int]

def read_toml(text: str) -> tuple[dict[str, Any], dict[str, tuple[_Place, _Place]]]:
    """`(value, {path: (key, value)})`, places as (line, column, length); ValueError(message, line, column, length)."""

def schema() -> str:
    """JSON Schema of the configuration."""

def error_table() -> list[tuple[str, int, str, str]]:
    """Every error the gateway answers itself: name, status, title, cause."""

def explain(
    config: bytes,
    method: str,
    url: str,
    headers: list[tuple[str, str]],
    client_ip: str,
    entrypoint: str | None = None,
) -> str:
    """What a configuration (JSON) would do with a request, as JSON. ValueError: not sent, or not compiled."""

class Shared:
    """The memory all processes of one gateway share."""

    @staticmethod
    def create(path: str | PathLike[str], workers: int) -> Shared:
        """Makes a fresh file for `workers` slots, replacing what was there. Raises OSError."""

    @staticmethod
    def open(path: str | PathLike[str]) -> Shared:
        """Opens a file made by `create`. Raises OSError when it is missing or of another version."""

    @property
    def workers(self) -> int:
        """Worker slots the file was made for."""

    def set_health(self, key: int, up: bool | None) -> bool:
        """What a check found about an endpoint (`endpoint_key`), None: not checked. False: no room in the table."""

    def health(self, key: int) -> bool | None:
        """What the last health check found, if there was one."""

    def ejected_for(self, key: int) -> float | None:
        """Seconds until the ejection of an endpoint ends; None when it is not ejected."""

    def breaker(self, name: str) -> str:
        """State of the circuit breaker policy called `name`: `closed`, `open` or `probing`."""

    def rotate_ticket_keys(self, key: bytes) -> None:
        """Makes 48 fresh random bytes the newest key of session tickets. ValueError: another number of bytes."""

    def restore_budgets(self, entries: list[tuple[str, str, str, int]]) -> None:
        """Raises the counters of the current windows, by scope, kind and window, to what was used already.

        A counter that stands higher stays. RuntimeError: no room for one. ValueError: an unknown kind or window.
        """

    def budget_used(self, scope: str, kind: str, window: str) -> int: ...
    def clear_worker(self, slot: int) -> None:
        """Gives back what a gone worker held of concurrency limits, and zeroes its gauges."""

def endpoint_key(service: str, url: str) -> int:
    """Key of a service's endpoint in shared memory, by its URL as configured."""

class HealthTarget(TypedDict):
    """An endpoint to be checked: at `host` and `port`, or `socket`; by `path` or `grpc`; times in seconds."""

    service: str
    endpoint: str
    key: int
    host: str
    port: int
    socket: str
    host_header: str
    tls: bool
    path: str | None
    grpc: str | None
    interval: float
    timeout: float
    healthy_after: int
    unhealthy_after: int

def health_targets(config: bytes) -> list[HealthTarget]:
    """The endpoints a configuration (JSON) wants checked. Raises ValueError when it is not a configuration."""

class TlsCertificate(TypedDict):
    """What a certificate says: names as RFC 4514 writes them, times in unix seconds, numbers in lower hex."""

    name: str
    source: str
    sans: list[str]
    subject: str
    issuer: str
    serial: str
    not_before: int
    not_after: int
    fingerprint: str
    key: str
    ocsp: bool

def tls_certificates(material: bytes) -> list[TlsCertificate]:
    """The leaf of every certificate in `material` (JSON); one that cannot be read is left out. ValueError: not such."""

class TlsStore:
    """The TLS of one worker, compiled. Immutable."""

    def __init__(self, config: bytes, material: bytes, shared: Shared | None = None) -> None:
        """From configuration and contents of its certificate files (JSON). ValueError: its argument lists problems."""

    def has_server(self, entrypoint: str) -> bool:
        """Whether an entrypoint speaks TLS."""

    def challenge(self, token: str) -> str | None:
        """The key authorization of an http-01 challenge."""

class MetricsWriter:
    """A worker's pen in Python's hand: for tests and tools."""

    def __init__(self, shared: Shared, worker: int) -> None: ...
    def request(
        self,
        route: str,
        method: str = "GET",
        status: int = 200,
        code: str = "",
        *,
        https: bool = False,
        duration_ns: int = 0,
        request_bytes: int = 0,
        response_bytes: int = 0,
        grpc_status: int | None = None,
    ) -> None: ...
    def upstream(
        self,
        service: str,
        endpoint: str,
        method: str = "GET",
        status: int = 200,
        code: str = "",
        *,
        duration_ns: int = 0,
    ) -> None: ...
    def begin(self, method: str = "GET", *, https: bool = False) -> None: ...
    def add(self, name: str, n: int = 1, *, attribute: str = "") -> None: ...
    def set(self, name: str, value: int, *, attribute: str = "") -> None: ...
    def loop_lag(self, lag_ns: int) -> None: ...

class MetricsReader:
    """Reads what all workers count."""

    def __init__(self, shared: Shared) -> None: ...
    def snapshot(self) -> bytes:
        """Everything counted, at one moment, as JSON (`core::observe::Snapshot`)."""

class AuditTail:
    """Follows the audit logs below a directory; see `pygate.audit.Tail`."""

    def __init__(
        self,
        dir: str | PathLike[str],
        start: str | dict[str, tuple[int, int, int]] = "end",
        sampled_only: bool = False,
    ) -> None: ...
    def records(self, limit: int = 10_000) -> tuple[list[dict[str, Any]], bool]: ...
    def calls(self, limit: int = 10_000) -> tuple[list[dict[str, Any]], bool]: ...
    def access(
        self, limit: int = 4_000, *, lines: bool = True, wanted: str = "sampled"
    ) -> tuple[bytes, int, list[dict[str, Any]], bool]:
        """The calls that ended since the last time as `(lines, count, dicts, more)`; reads about `limit` records.

        `lines`: those of the access log (`docs/telemetry.md`), `count` of them; empty unless asked for. Dicts as from
        `calls`, of the `wanted` calls: "all", "sampled", or "latest" (of the sampled ones, the last per route,
        method, scheme, status, code and duration bucket). Malformed records count as damaged. Raises OSError.
        """
    def marks(self) -> dict[str, tuple[int, int, int]]: ...
    def damaged(self) -> int: ...

class AuditVerifier:
    """Verifies the audit logs below a directory, one segment per `step()`; see `pygate.audit.verify`."""

    def __init__(self, dir: str | PathLike[str], pruned: bool = False) -> None: ...
    @property
    def bytes(self) -> int: ...
    @property
    def segments(self) -> int: ...
    def step(self) -> dict[str, Any] | None: ...

class AuditLogWriter:
    """A running audit writer, for tests and tools (the engine has its own). Raises OSError."""

    def __init__(
        self,
        dir: str | PathLike[str],
        slot: int = 0,
        segment_size: int = 64 << 20,
        flush_interval: float = 0.02,
    ) -> None: ...
    def append(self, encoded: bytes, records: int, durable: bool) -> int | None:
        """Sequence of the last record; None when the log is broken and the backlog full."""
    def durable_seq(self) -> int:
        """Highest sequence known to be on disk."""
    def broken(self) -> int | None:
        """errno of the failure that lasts."""
    def eventfd(self) -> int: ...
    def clear_eventfd(self) -> None: ...
    @property
    def dir(self) -> PathLike[str]: ...
    def stats(self) -> dict[str, int]: ...
    def flush_and_stop(self) -> None: ...

def audit_calls(
    dir: str | PathLike[str],
    *,
    limit: int = 50,
    since_ns: int = 0,
    route: str | None = None,
    status: tuple[int, int] | None = None,
    unknown_only: bool = False,
    exchange: bytes | None = None,
) -> list[dict[str, Any]]:
    """The youngest calls that match, oldest first; keys as in `pygate.audit.Tail.calls`. Raises OSError."""

def encode_audit_intent(
    exchange: bytes,
    wall_ns: int,
    *,
    route: str = "",
    service: str = "",
    method: str = "GET",
    host: str = "",
    path: str = "/",
    client_ip: str = "127.0.0.1",
    client_port: int = 0,
    identity: str = "",
    trace_id: bytes = ...,
    span_id: bytes = ...,
    parent_span_id: bytes = ...,
    sampled: bool = False,
    entrypoint: str = "web",
    revision: bytes = ...,
    user_agent: str = "",
    https: bool = False,
    mono_ns: int = 0,
) -> bytes:
    """An encoded intent record, as the engine writes it."""

def encode_audit_outcome(
    exchange: bytes,
    wall_ns: int,
    *,
    duration_ns: int = 0,
    status: int = 200,
    code: str = "",
    endpoint: str = "",
    attempts: int = 1,
    upstream_ns: int = 0,
    request_bytes: int = 0,
    response_bytes: int = 0,
    truncated: bool = False,
    findings: list[tuple[str, str, bool, bool, int, int]] = ...,
    client_ip: str | None = None,
    entrypoint: str = "",
    revision: bytes = ...,
    grpc_status: int | None = None,
) -> bytes:
    """An encoded outcome record; a finding is (rule, action, shadow, response, start, end)."""

class Revision:
    """Everything that decides an answer. Immutable."""
    def __init__(self, config: bytes, name: str, workers: int = 1, rules: Ruleset | None = None) -> None: ...
    @property
    def audit_dir(self) -> str: ...
    @property
    def name(self) -> str: ...

def check(config: bytes, rules: Ruleset | None = None) -> str:
    """Everything wrong with a configuration: a JSON list of problems, empty when it compiles."""

class HeadParser:
    """A parsed request head: single steps of the data plane, for `bench/micro`."""

    def parse(self, bytes: bytes) -> int:
        """Parses a complete HTTP/1.1 request head; returns its length. ValueError says what is wrong with it."""

    def route(self, revision: Revision) -> int | None:
        """The number of the route that the parsed head takes."""

class Wire(asyncio.Protocol):
    """An asyncio protocol; made by the gateway."""
    def failed(self, timed_out: bool) -> None: ...

class Acceptor:
    """A protocol factory for one entrypoint."""
    def __call__(self) -> Wire: ...

class Gateway:
    """One worker's data plane."""
    def __init__(
        self,
        shared: Shared,
        worker: int,
        revision: Revision,
        connect: Callable[[Wire, str | None, int, str | None, float], None],
        plugin: Callable[[int, int, bool], None] | None = None,
        tls: TlsStore | None = None,
    ) -> None: ...
    def use_loop(self, event_loop: asyncio.AbstractEventLoop) -> None:
        """Answers of one turn of the loop leave together from now on."""
    def flush(self) -> None: ...
    def read_direct(self) -> None: ...
    def acceptor(self, entrypoint: str) -> Acceptor: ...
    def publish(self, revision: Revision, tls: TlsStore | None = None) -> None: ...
    def publish_tls(self, tls: TlsStore) -> None: ...
    def publish_keys(self, snapshot: bytes) -> None:
        """Puts virtual keys in force (`pygate.ai.snapshot`, JSON). ValueError: not such."""
    def tick(self) -> None: ...
    @property
    def audit_fd(self) -> int: ...
    def audit_ready(self) -> None: ...
    @property
    def audit_broken(self) -> int | None:
        """errno of the failure that keeps the audit log from being written."""
    def plugin_view(self, exchange: int, serial: int) -> dict[str, Any] | None: ...
    def plugin_continue(self, exchange: int, serial: int, changes: Sequence[tuple[str, str, str]]) -> None: ...
    def plugin_answer(
        self, exchange: int, serial: int, status: int, fields: list[tuple[str, str]], body: bytes
    ) -> None: ...
    def plugin_fail(self, exchange: int, serial: int) -> None: ...
    def drain(self) -> None: ...
    @property
    def open_connections(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    def close(self) -> None: ...

def pack_schema() -> str:
    """JSON Schema of a rule pack."""

class FoundProblem(TypedDict):
    """One problem of `PackError`."""

    path: str
    message: str
    expected: str | None
    nearest: str | None

class RuleInfo(TypedDict):
    """A compiled rule."""

    rule: str
    #: As compiled, with all repetitions bounded.
    pattern: str
    #: What an engine that only reports ends is given in its place.
    ending: str
    action: str
    severity: str
    owasp: str
    mask: str
    shadow: bool

class PackError(ValueError):
    """Packs that cannot be compiled; `args[0]` lists the problems."""

    args: tuple[list[FoundProblem]]

class Unjudgeable(ValueError):
    """A body that cannot be judged."""

class HyperscanDb:
    """A Hyperscan database compiled from the rules with this fingerprint, and the library to run it with."""

    def __init__(self, bytes: bytes, library: str | PathLike[str], version: str, fingerprint: str) -> None: ...
    @property
    def bytes(self) -> bytes: ...
    @property
    def library(self) -> Path: ...
    @property
    def version(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...

class Ruleset:
    """Compiled packs."""

    def __init__(
        self,
        packs_json: bytes,
        engine: str = "auto",
        shadow: list[str] = ...,
        hyperscan: HyperscanDb | None = None,
    ) -> None:
        """`packs_json`: JSON array of packs in the shape of their TOML files. Raises PackError."""

    @property
    def engine(self) -> str:
        """`"rust"` or `"hyperscan"`."""

    @property
    def notes(self) -> list[str]:
        """Why an engine was not used, which rules are slow."""

    @property
    def fingerprint(self) -> str:
        """Names the rules' patterns in their order: SHA-256 in hex."""

    def rules(self) -> list[RuleInfo]:
        """All rules in their order."""

    def plan(self, packs: list[str] | None = None, direction: str = "request") -> RulePlan:
        """The rules of these packs in this direction; without packs, all of them. Raises PackError."""

#: rule, action, shadow, channel, start, end (in the decoded channel), raw start, raw end (in the body).
_Found = tuple[str, str, bool, int, int, int, int, int]

class RulePlan:
    """Rules chosen from a rule set."""

    def __len__(self) -> int: ...
    def judge(self, content_type: str, body: bytes) -> tuple[str, list[_Found], bytes | None]:
        """`(verdict, findings, masked body)`. Raises Unjudgeable; ValueError for a type that is not text."""

    def count(self, content_type: str, body: bytes) -> int:
        """Judges a body and only counts the findings."""

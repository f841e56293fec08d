"""Rows as a table, as JSON, and judged against the budgets of the design."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.proxy.cases import Row


@dataclass
class Budget:
    """A bound on one number of one row."""

    key: str
    case: str
    peer: str
    read: Callable[[Row], float | None]
    most: float


def _ratio(row: Row) -> float | None:
    return row.ratio


BUDGETS = [
    Budget("get_vs_nginx", "get", "nginx", _ratio, 1.0),
    Budget("get_vs_haproxy", "get", "haproxy", _ratio, 1.0),
    Budget("get_vs_envoy", "get", "envoy", _ratio, 0.4),
    Budget("body10m_down_vs_haproxy", "body10m-down", "haproxy", _ratio, 1.0),
    Budget("body10m_up_vs_haproxy", "body10m-up", "haproxy", _ratio, 1.0),
    Budget("idle_kb", "memory", "pygate", lambda row: row.kb_per_connection, 4.0),
    Budget("rss_mb", "memory", "pygate", lambda row: row.rss_mb, 80.0),
    Budget("tls_get_vs_nginx", "tls-get", "nginx", _ratio, 1.0),
    Budget("tls_handshake_vs_nginx", "tls-handshake", "nginx", _ratio, 0.9),
    Budget("idle_tls_kb", "memory-tls", "pygate", lambda row: row.kb_per_connection, 32.0),
    Budget("h2_vs_nginx", "h2-10", "nginx", _ratio, 0.6),
    Budget("ws_vs_nginx", "ws", "nginx", _ratio, 1.0),
    Budget("grpc_vs_envoy", "grpc", "envoy", _ratio, 0.5),
    Budget("reload_failed", "reload", "pygate", lambda row: row.errors, 0),
]
#: The longest a worker's loop was late for its tick, read from the metrics it keeps in shared memory.
RELOAD_STALL_MS = 5.0


def judge(rows: list[Row], reloads: int = 0, budgets: list[Budget] = BUDGETS) -> tuple[dict[str, str], list[str]]:
    """The summary's numbers, and what is wrong with them; only what was measured is judged."""
    found = {(row.case, row.peer): row for row in rows}
    numbers: dict[str, str] = {}
    wrong: list[str] = []
    for budget in budgets:
        row = found.get((budget.case, budget.peer))
        value = budget.read(row) if row else None
        if row is None or value is None:
            continue
        numbers[budget.key] = f"{value:.{3 if 0 < value < 0.1 else 2}f}" if isinstance(value, float) else str(value)
        if row.void:
            wrong.append(f"{budget.key}: void, the load was the bottleneck")
        elif value > budget.most:
            wrong.append(f"{budget.key}: {value:.2f} is above the budget of {budget.most:g}")
    busy, calm = found.get(("reload", "pygate")), found.get(("reload-none", "pygate"))
    if busy and calm and busy.stall_ms is not None and calm.stall_ms is not None:
        numbers["reloads"], numbers["reload_stall_ms"] = str(busy.reloads), f"{busy.stall_ms:.2f}"
        numbers["calm_stall_ms"] = f"{calm.stall_ms:.2f}"
        if busy.stall_ms > RELOAD_STALL_MS:
            wrong.append(f"reload_stall_ms: {busy.stall_ms:.2f} is above the budget of {RELOAD_STALL_MS:g}")
        if busy.reloads != reloads:
            wrong.append(f"reloads: {busy.reloads} of {reloads} took effect")
    for row in rows:
        if row.errors and row.case != "reload":
            wrong.append(f"{row.case} {row.peer}: {row.errors} errors in {row.requests} requests")
        if row.requests == 0:
            wrong.append(f"{row.case} {row.peer}: no request was answered")
    return numbers, wrong


def table(rows: list[Row], console: Console) -> None:
    columns = ["case", "peer", "requests", "errors", "rps", "p50 ms", "p99 ms", "CPU µs/req", "low–high", "ratio"]
    shown = Table(*columns, "KB/conn", "RSS MB", "others", "", box=None, pad_edge=False)
    for column in shown.columns[2:13]:
        column.justify = "right"
    for row in rows:
        shown.add_row(
            row.case,
            row.peer,
            f"{row.requests:,}",
            str(row.errors),
            _cell(row.rps, "{:,.0f}"),
            _cell(row.p50_ms, "{:.2f}"),
            _cell(row.p99_ms, "{:.2f}"),
            _cell(row.cpu_us_per_request, "{:,.1f}"),
            "{:,.1f}–{:,.1f}".format(*row.spread) if row.spread else "",
            _cell(row.ratio, "{:.2f}"),
            _cell(row.kb_per_connection, "{:.2f}"),
            _cell(row.rss_mb, "{:.1f}"),
            _cell(row.foreign, "{:.0%}"),
            "void" if row.void else "",
        )
    console.print(shown)


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def machine() -> dict[str, str]:
    """What it ran on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = Path("/proc/loadavg").read_text().split()[0]
    return {"cpu": model, "kernel": platform.release(), "python": platform.python_version(), "load_before": load}


def write_json(path: Path, rows: list[Row], facts: dict[str, str], numbers: dict[str, str], wrong: list[str]) -> None:
    document = {
        "machine": facts,
        "rows": [{k: v for k, v in asdict(row).items() if v is not None} for row in rows],
        "summary": numbers,
        "wrong": wrong,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")

"""Rows as a table, and judged against the budgets of the design."""

from __future__ import annotations

from operator import attrgetter

from rich.console import Console
from rich.table import Table

from bench.ai.cases import MANY_STREAMS
from bench.proxy.cases import Row
from bench.proxy.report import Budget

_MANY = f"stream-{MANY_STREAMS}"

BUDGETS = [
    Budget("chat_vs_envoy", "chat", "envoy", attrgetter("ratio"), 1.2),
    Budget("chat_vs_portkey", "chat", "portkey", attrgetter("ratio"), 0.1),
    Budget("chat_vs_litellm", "chat", "litellm", attrgetter("ratio"), 0.01),
    Budget("delta_us", "stream", "pygate", attrgetter("cpu_us_per_delta"), 5.0),
    Budget("ttft_added_p99_ms", "stream", "pygate", attrgetter("ttft_added_p99_ms"), 1.0),
    Budget("stalls", "stream", "pygate", attrgetter("stalls"), 0),
    Budget("streams_rss_mb", _MANY, "pygate", attrgetter("rss_peak_mb"), 120.0),
    Budget("streams_growth_mb", _MANY, "pygate", attrgetter("rss_growth_mb"), 4.0),
    Budget("memory_growth_mb", "memory", "pygate", attrgetter("rss_growth_mb"), 4.0),
]

#: Column, attribute, how it is written.
COLUMNS = [
    ("calls", "requests", "{:,}"),
    ("errors", "errors", "{}"),
    ("at once", "connections", "{}"),
    ("calls/s", "rps", "{:,.0f}"),
    ("p50 ms", "p50_ms", "{:,.1f}"),
    ("p99 ms", "p99_ms", "{:,.1f}"),
    ("CPU µs/call", "cpu_us_per_request", "{:,.1f}"),
    ("CPU µs/delta", "cpu_us_per_delta", "{:,.2f}"),
    ("ratio", "ratio", "{:.3f}"),
    ("TTFT p50", "ttft_p50_ms", "{:,.2f}"),
    ("p99 ms", "ttft_p99_ms", "{:,.2f}"),
    ("added", "ttft_added_p99_ms", "{:,.2f}"),
    ("stalls", "stalls", "{:,}"),
    ("RSS MB", "rss_before_mb", "{:.0f}"),
    ("peak", "rss_peak_mb", "{:.0f}"),
    ("after", "rss_after_mb", "{:.0f}"),
    ("growth", "rss_growth_mb", "{:+.1f}"),
    ("others", "foreign", "{:.0%}"),
]


def table(rows: list[Row], console: Console) -> None:
    """Columns that no row has anything for are left out."""
    used = [column for column in COLUMNS if any(getattr(row, column[1], None) is not None for row in rows)]
    shown = Table("case", "peer", *(title for title, _, _ in used), "", box=None, pad_edge=False)
    for column in shown.columns[2:-1]:
        column.justify = "right"
    for row in rows:
        values = [(getattr(row, name, None), form) for _, name, form in used]
        cells = ["" if value is None else form.format(value) for value, form in values]
        shown.add_row(row.case, row.peer, *cells, "void" if row.void else "")
    console.print(shown)


def notes(rows: list[Row]) -> list[str]:
    """What is measured and not judged."""
    told = []
    for row in rows:
        if row.case == "stream-guarded":
            delta, added = getattr(row, "cpu_us_per_delta", None), getattr(row, "ttft_added_p99_ms", None)
            if delta is not None and added is not None:
                told.append(
                    f"not judged: with the guard on, which holds a stream's whole answer, a delta costs {delta:.2f} µs"
                    f" and the first token comes {added:,.0f} ms later (p99)"
                )
    return told

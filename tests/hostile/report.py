"""What readers get: failures, the list, the page in `docs/security/`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tests.hostile.rows import Row, Table
from tests.hostile.runner import Run
from tests.hostile.session import Result

#: Failures of one row shown; the rest are in the JSON.
SHOWN = 2

HEAD = """\
# The hostile table

Written by `python -m tests.hostile --markdown docs/security/hostile-table.md`; a test compares it. Every line is sent
to a real gateway on a raw socket, in one piece and cut at every byte, over every protocol named. Its upstream writes
down what it receives: nothing of a request that is refused, and exactly the request otherwise. After each one the
gateway must serve a plain request. *n* is the number in the catalogue of known attacks. `a … b (7)` are seven rows made
from a list, one per byte or text; those of one list that are answered differently have a line each.

- `closed`: no answer, the connection ends; `no answer`: the same, but for an alert of TLS
- `cut`: an answer that began is visibly broken off
- `gateway error`: 502, or an answer that is visibly broken off if its head was out already
- `refused`: HTTP/2 leaves a choice between an answer, RST_STREAM and GOAWAY; one of them, and no success
- `error`: HTTP/2 ends the stream or the connection, whatever was answered before
- `rst`, `goaway`: that one, with the error named
"""


def failure(run: Run) -> Iterator[str]:
    """Lines about one run that failed."""
    yield f"FAILED {run.row.id} ({run.manner}): {run.row.what} [{run.row.source}]"
    yield from (f"    {complaint}" for complaint in run.complaints)


def failures(result: Result) -> Iterator[str]:
    """Lines about the first runs of each row that failed, and what was found beyond rows."""
    shown: Counter[str] = Counter()
    for run in result.failures:
        shown[run.row.id] += 1
        if shown[run.row.id] <= SHOWN:
            yield from failure(run)
    yield from (f"FOUND {finding}" for finding in result.findings)


def listing(table: Table) -> str:
    """One line per row."""
    lines = [
        f"{row.id}\t{','.join(map(str, row.catalogue)) or '-'}\t{','.join(row.protocols)}\t{row.expected}\t{row.what}"
        f"\t{row.source}"
        for row in table.rows
    ]
    lines += [
        f"{item.id}\t{','.join(map(str, item.catalogue))}\t-\tnot applicable\t{item.what}\t{item.because}"
        for item in table.not_applicable
    ]
    return "".join(line.encode("ascii", "backslashreplace").decode() + "\n" for line in lines)


def markdown(table: Table) -> str:
    """The page."""
    lines = [HEAD]
    for title, hostile in (("Hostile clients", "client"), ("Hostile upstreams", "upstream")):
        lines += [f"## {title}\n", "| id | n | what | source | over | answer |", "|---|---|---|---|---|---|"]
        lines += list(_lines([row for row in table.rows if row.hostile == hostile]))
        lines.append("")
    lines += ["## Not applicable\n", "| n | what | why |", "|---|---|---|"]
    for item in table.not_applicable:
        lines.append(f"| {', '.join(map(str, item.catalogue))} | {_cell(item.what)} | {_cell(item.because)} |")
    return "\n".join(lines) + "\n"


def _lines(rows: list[Row]) -> Iterator[str]:
    """One line per row; rows of one sweep that are answered alike share one."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        key = (row.id.rsplit("-", 1)[0] if row.generated else row.id, row.expected)
        groups.setdefault(key, []).append(row)
    for (name, expected), group in groups.items():
        first = group[0]
        if len(group) > 1:
            name = f"{first.id} … {group[-1].id.rsplit('-', 1)[1]} ({len(group)})"
        elif first.generated:
            name = first.id
        what = re.sub(r": .*", "", first.what) + f": {len(group)} of them" if len(group) > 1 else first.what
        numbers = ", ".join(map(str, first.catalogue))
        yield (
            f"| {_cell(name)} | {numbers} | {_cell(what)} | {_cell(first.source)} | {', '.join(first.protocols)} |"
            f" {_cell(expected)} |"
        )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

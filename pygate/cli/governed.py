"""What `keys`, `teams`, `projects` and `usage` have in common: options, questions, errors, tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from pygate.ai import limits, money
from pygate.ai.refusal import Refusal
from pygate.cli.terminal import print_json, print_problems, style
from pygate.config import ConfigError
from pygate.config.problem import Style


def options() -> argparse.ArgumentParser:
    """Options of every verb: a parent for its parser."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("-c", "--config", help="file or directory (default: pygate.toml, if there is one)")
    parent.add_argument("--admin", metavar="HOST:PORT", help="ask the gateway at this admin address")
    parent.add_argument("--json", action="store_true", help="print one JSON document")
    return parent


def add_limits(parser: argparse.ArgumentParser, changing: bool) -> None:
    """`--limit`, and for changes `--no-limit`."""
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="KIND:WINDOW:MAX",
        help="requests:minute:100, total_tokens:day:1000000, usd:month:50.00; repeatable",
    )
    if changing:
        parser.add_argument(
            "--no-limit", action="append", default=[], metavar="KIND:WINDOW", help="lift this limit; repeatable"
        )


def changed(before: list[dict[str, Any]], args: argparse.Namespace) -> list[dict[str, Any]]:
    """The limits there are with those of the command line put in or taken away. Raises `Refusal`."""
    found = {(limit["kind"], limit["window"]): limit for limit in before}
    for text in args.no_limit:
        place = limits.parse_place(text)
        if found.pop(place, None) is None:
            there = ", ".join(str(limits.read(limit)) for limit in before) or "none"
            raise Refusal(f"there is no limit {text}", expected=f"one of those there are ({there})")
    for text in args.limit:
        limit = limits.parse(text)
        found[limit.kind, limit.window] = limit.as_dict()
    return list(found.values())


class Failed(Exception):
    """An answer that is an error: its JSON."""

    def __init__(self, value: dict[str, Any], status: int) -> None:
        super().__init__(value)
        self.value = value
        #: What the exit code says of it: 2 for a wrong question, 1 for a store or gateway that cannot answer.
        self.code = 2 if 400 <= status < 500 and status != 401 else 1


Ask = Callable[..., Any]


def run(args: argparse.Namespace, work: Callable[[Ask], int]) -> int:
    """Does the work of a verb; `ask(method, *path, query=, body=)` gives it answers that are none of an error."""
    # Other verbs must start fast.
    from pygate.admin.client import AskError
    from pygate.ai.database import StoreError
    from pygate.ai.desk import Desk, DeskError

    paint = style(sys.stderr)
    try:
        desk = Desk.of(args.config, args.admin)

        def ask(method: str, *path: str, query: dict[str, str] | None = None, body: Any = None) -> Any:
            status, value = desk.ask(method, *path, query=query, body=body)
            if status >= 400:
                raise Failed(value, status)
            return value

        return work(ask)
    except ConfigError as e:
        print_problems(e.problems, {}, sys.stderr)
        return 2
    except Failed as e:
        value, code = e.value, e.code
    except Refusal as e:
        value, code = {"error": e.as_dict()}, 2
    except (DeskError, AskError, StoreError) as e:
        value, code = {"error": Refusal(str(e)).as_dict()}, 1
    if args.json:
        print_json(value)
    else:
        error = value["error"]
        print(f"{paint.red('error')}: {error['message']}", file=sys.stderr)
        if error["nearest"]:
            print(f"  did you mean `{error['nearest']}`?", file=sys.stderr)
        if error["expected"]:
            print(f"  expected {error['expected']}", file=sys.stderr)
    return code


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], paint: Style, right: str = "") -> list[str]:
    """Lines of columns; those whose heads are words of `right` are aligned there."""
    ends = set(right.split())
    widths = [max(len(text) for text in column) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, heads, strict=True)
        return "  ".join(f"{c:>{w}}" if h in ends else f"{c:<{w}}" for c, w, h in placed).rstrip()

    return [paint.bold(line(heads)), *(line(row) for row in rows)]


def limit_lines(holds: list[dict[str, Any]], paint: Style) -> list[str]:
    """Limits with what is used of them."""
    if not holds:
        return [paint.dim("  no limits")]
    rows = []
    for entry in holds:
        in_usd = entry["kind"] == "nano_usd"
        shown = money.usd if in_usd else "{:,}".format
        share = f"{100 * entry['used'] // entry['max']}%" if entry["max"] else "all"
        rows.append(
            [
                *(entry["scope"], "usd" if in_usd else entry["kind"], entry["window"]),
                *(shown(entry["max"]), shown(entry["used"]), share, when(entry["resets"])),
            ]
        )
    heads = ("SCOPE", "KIND", "WINDOW", "MAX", "USED", "SHARE", "RESETS (UTC)")
    return ["  " + line for line in table(heads, rows, paint, right="MAX USED SHARE")]


def limit_text(entries: list[dict[str, Any]]) -> str:
    return " ".join(str(limits.read(entry)) for entry in entries) or "-"


def when(seconds: int | None) -> str:
    """A time in UTC; `never` for none."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}" if seconds is not None else "never"

"""`pygate usage --by key|team|project|model|day`: what calls used and what they cost."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pygate.ai.secret import recognised
from pygate.cli import governed
from pygate.cli.governed import Ask, when
from pygate.cli.terminal import print_json, style

_FILTERS = ("key", "team", "project", "model", "target", "provider")
_NUMBERS = "REQUESTS REFUSED ERRORS INPUT CACHED OUTPUT REASONING USD UNPRICED"


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "usage",
        help="tell what calls of models used and cost",
        parents=[governed.options()],
        description="Sums of the audit log: calls, tokens, money. INPUT includes CACHED, OUTPUT includes REASONING."
        " REFUSED calls reached no provider; UNPRICED ones have no known price and are not in USD.",
        epilog="examples:\n"
        "  pygate usage --by key --since 7d\n"
        "  pygate usage --by team,model --since 2026-11-01 --until 2026-12-01\n"
        "  pygate usage --by day --key ci\n"
        "  pygate usage --by team --json | jq -r '.rows[] | [.team, .usd] | @tsv'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--by", default="key", metavar="WHAT", help="key, team, project, model, target, provider, day; or several"
    )
    parser.add_argument("--since", default="7d", metavar="TIME", help="24h, 7d, 2026-11-01 (default: %(default)s)")
    parser.add_argument("--until", metavar="TIME", help="1d (ago), 2026-12-01 (default: now)")
    for name in _FILTERS:
        parser.add_argument(f"--{name}", help=f"only calls of this {name}")
    return parser


def run(args: argparse.Namespace) -> int:
    return governed.run(args, lambda ask: _work(args, ask))


def _work(args: argparse.Namespace, ask: Ask) -> int:
    query = {name: value for name in ("by", "since", "until", *_FILTERS) if (value := getattr(args, name)) is not None}
    if args.key:
        query["key"] = recognised(args.key)
    told = ask("GET", "usage", query=query)
    if args.json:
        print_json(told)
        return 0
    paint = style(sys.stdout)
    print(paint.dim(f"{when(told['since'])} to {when(told['until'])} UTC"))
    heads = [*(name.upper() for name in told["by"]), *_NUMBERS.split()]
    rows = [[*(_place(row, name) for name in told["by"]), *_numbers(row)] for row in told["rows"]]
    total = ["all", *("" for _ in told["by"][1:]), *_numbers(told["total"])]
    lines = governed.table(heads, [*rows, total], paint, right=_NUMBERS)
    print("\n".join([*lines[:-1], paint.bold(lines[-1])]))
    return 0


def _place(row: dict[str, Any], name: str) -> str:
    if name == "key" and row["key"]:
        return f"{row['name'] or '?'} ({row['key']})"
    return str(row[name]) or "-"


def _numbers(row: dict[str, Any]) -> list[str]:
    names = ("requests", "refused", "errors", "input_tokens", "cached_read", "output_tokens", "reasoning")
    return [*(f"{row[name]:,}" for name in names), row["usd"], f"{row['unpriced']:,}"]

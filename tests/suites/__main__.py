"""Command line of the suites. Exit codes: 0 all features work, 1 one does not."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.suites.check import Check
from tests.suites.place import place
from tests.suites.suites import SUITES, summary


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.suites",
        description="Clients and test programs that others wrote, against a real gateway with TLS, HTTP/2, WebSocket"
        " and gRPC. Exit code 1: a feature does not work.",
        epilog="examples:\n  python -m tests.suites\n  python -m tests.suites --only curl,grpcio --json suites.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(SUITES), help="comma-separated (default: %(default)s)")
    parser.add_argument("--log", action="store_true", help="print the end of the gateway's log, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    args = parser.parse_args()
    wanted = args.only.split(",")
    if unknown := [name for name in wanted if name not in SUITES]:
        parser.error(f"--only: {', '.join(unknown)} unknown; choose from {', '.join(SUITES)}")

    started, found, progress = time.monotonic(), list[Check](), Console(stderr=True)
    with place() as where:
        for name in wanted:
            progress.print(name, style="dim")
            found += SUITES[name](where)
        signs = where.signs()
        if args.log:
            print(where.gateway.log[-10_000:], file=sys.stderr)
    found += [Check("gateway", "its log is clean", not signs, ", ".join(signs))]
    show(found, Console(width=None if sys.stdout.isatty() else 150))
    told = summary(found)
    if args.json:
        args.json.write_text(json.dumps({"summary": told, "checks": [asdict(c) for c in found]}, indent=2) + "\n")
    failed = any(not check.ok for check in found)
    print(f"suites={'failed' if failed else 'ok'} {told} seconds={time.monotonic() - started:.0f}")
    return 1 if failed else 0


def show(found: list[Check], console: Console) -> None:
    """A line per client and feature."""
    table = Table("client", "feature", "", "s", "", box=None, pad_edge=False)
    table.columns[3].justify = "right"
    for check in found:
        table.add_row(
            check.client,
            check.feature,
            "[green]ok[/green]" if check.ok else "[red]failed[/red]",
            f"{check.seconds:.1f}" if check.seconds >= 0.05 else "",
            check.detail,
        )
    console.print(table, highlight=False)


if __name__ == "__main__":
    sys.exit(main())

"""Command line of the hostile table. Exit codes: 0 every row held, 1 one did not, 2 it could not run."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import uvloop
from rich.console import Console

from tests.hostile import report, rows, session
from tests.hostile.runner import Run


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile",
        description="Sends every known way to fool a proxy to a real gateway, on raw sockets, before an upstream that"
        " writes down what it receives. The table is in tests/hostile/table.",
        epilog="examples:\n"
        "  python -m tests.hostile --quick\n"
        "  python -m tests.hostile --only cl-te,chunk-size --json out.json\n"
        "  python -m tests.hostile --list | grep CVE\n"
        "  python -m tests.hostile --markdown docs/security/hostile-table.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows, failures and reasons there")
    parser.add_argument("--only", default="", metavar="ID,…", help="only these rows; a sweep's id means all of it")
    parser.add_argument(
        "--quick", action="store_true", help="fewer ways of cutting, no row that waits (under a minute)"
    )
    parser.add_argument("--list", action="store_true", help="list the rows and run nothing")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table for readers and run nothing")
    args = parser.parse_args()

    table = rows.read()
    if args.list:
        print(report.listing(table), end="")
        return 0
    if args.markdown:
        args.markdown.write_text(report.markdown(table))
        print(f"wrote {args.markdown}")
        return 0
    only = [name for name in args.only.split(",") if name]
    console = Console(stderr=True)
    with console.status("starting the gateway") as status:
        failed: Counter[str] = Counter()

        def progress(done: int, total: int, last: Run) -> None:
            status.update(f"{done} of {total} runs")
            failed[last.row.id] += bool(last.complaints)
            if last.complaints and failed[last.row.id] <= report.SHOWN:
                for line in report.failure(last):
                    console.print(line, markup=False, highlight=False, soft_wrap=True)

        result = uvloop.run(session.carry_out(table, only, args.quick, progress))
    if not result.rows:
        console.print(f"error: no row is called {args.only}; --list shows them", markup=False)
        return 2
    for finding in result.findings:
        console.print(f"FOUND {finding}", markup=False, highlight=False, soft_wrap=True)
    if args.json:
        args.json.write_text(json.dumps(result.document(), indent=1) + "\n")
    print(result.line)
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())

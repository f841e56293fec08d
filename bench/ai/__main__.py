"""Command line of the AI bench. Exit codes: 0 all budgets met, 1 one missed or void, 2 it could not run."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.ai import packages, report
from bench.ai.cases import CASES, Bench, Plan
from bench.ai.peers import PEERS
from bench.proxy.cases import Row, settle
from bench.proxy.generators import tools
from bench.proxy.processes import StartError
from bench.proxy.report import judge, machine, write_json


def main() -> int:
    args = arguments()
    wanted, peers = args.cases.split(","), args.peers.split(",")
    needed = {"taskset": "util-linux"} | ({"nginx": "nginx-light"} if "chat" in wanted else {})
    missing = [c for c in needed if not (shutil.which(c) or shutil.which(f"/usr/sbin/{c}"))]
    if missing:
        debian = " ".join(needed[c] for c in missing)
        print(f"error: {', '.join(missing)} not found; install with: apt-get install {debian}")
        return 2

    progress = Console(stderr=True)
    directory = Path(tempfile.mkdtemp(prefix="pygate-bench-"))
    rows: list[Row] = []
    try:
        # Before this process keeps to one core, and before anything is timed.
        progress.print("building bench/tools, installing gateways where they are missing", style="dim")
        tools()
        for name, install in (("litellm", packages.litellm), ("portkey", packages.portkey)):
            if name in peers:
                install()
        facts, started = machine(), time.monotonic()
        settle()
        bench = Bench(directory, peers, plan_of(args), lambda text: progress.print(text, style="dim"))
        for case in wanted:
            rows += CASES[case](bench)
    except (StartError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if args.keep:
            print(f"kept {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)

    report.table(rows, Console(width=None if sys.stdout.isatty() else 220))
    numbers, wrong = judge(rows, budgets=report.BUDGETS)
    if args.json:
        write_json(args.json, rows, facts, numbers, wrong)
    for text in [*report.notes(rows), *(f"missed: {text}" for text in wrong)]:
        print(text)
    parts = {"bench": "missed" if wrong else "ok", **numbers, "void": str(sum(row.void for row in rows))}
    parts["seconds"] = f"{time.monotonic() - started:.0f}"
    print(" ".join(f"{key}={value}" for key, value in parts.items()))
    return 1 if wrong else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ai",
        description="Measures pygate beside Envoy (as a plain proxy), LiteLLM and Portkey: the same calls of models,"
        " one gateway core (0); load and provider on core 1. CPU is that of all processes of a gateway."
        " ratio = pygate / peer.",
        epilog="examples:\n  python -m bench.ai --quick --json out.json\n"
        "  python -m bench.ai --quick --cases chat,stream --peers pygate,envoy",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds (about 6 minutes)")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated (default: %(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each row")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a round, and of the case memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and machine facts there")
    parser.add_argument("--keep", action="store_true", help="keep the directory with configurations and logs")
    args = parser.parse_args()
    for given, known, option in ((args.cases, CASES, "--cases"), (args.peers, PEERS, "--peers")):
        unknown = [name for name in given.split(",") if name not in known]
        if unknown:
            parser.error(f"{option}: {', '.join(unknown)} unknown; choose from {', '.join(known)}")
    if args.rounds is not None and args.rounds < 1 or args.seconds is not None and args.seconds <= 0:
        parser.error("--rounds and --seconds must be more than 0")
    return args


def plan_of(args: argparse.Namespace) -> Plan:
    plan = Plan.quick() if args.quick else Plan.full()
    if args.rounds is not None:
        plan = replace(plan, rounds=args.rounds, stream_rounds=args.rounds)
    if args.seconds is not None:
        names = ("seconds", "stream_seconds", "many_seconds", "memory_seconds")
        plan = replace(plan, **dict.fromkeys(names, args.seconds))
    return plan


if __name__ == "__main__":
    sys.exit(main())

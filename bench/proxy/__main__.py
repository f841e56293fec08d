"""Command line of the proxy bench. Exit codes: 0 all budgets met, 1 one missed or void, 2 it could not run."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from bench.proxy import cases, origin, protocols, report
from bench.proxy.cases import Bench, Plan, Row
from bench.proxy.peers import PEERS
from bench.proxy.processes import StartError

CASES = ["get", "body10m", "post", "memory", "reload", *protocols.PROTOCOLS]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.proxy",
        description="Measures pygate beside nginx, HAProxy and Envoy: the same work, one gateway core (0); load and"
        " upstream on core 1. CPU is that of all processes of a gateway. ratio = pygate / peer.",
        epilog="examples:\n  python -m bench.proxy --quick\n  python -m bench.proxy --cases get,post --json out.json\n"
        "  python -m bench.proxy --quick --cases tls,h2,ws,grpc",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds (about 6 minutes)")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated (default: %(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and machine facts there")
    parser.add_argument("--keep", action="store_true", help="keep the directory with configurations and logs")
    args = parser.parse_args()

    wanted, peers = args.cases.split(","), args.peers.split(",")
    for given, known, option in ((wanted, CASES, "--cases"), (peers, list(PEERS), "--peers")):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"{option}: {', '.join(unknown)} unknown; choose from {', '.join(known)}")
    needed = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "taskset": "util-linux"}
    if {"h2", "grpc"} & set(wanted):
        needed["h2load"] = "nghttp2-client"
    missing = [c for c in needed if not (shutil.which(c) or shutil.which(f"/usr/sbin/{c}"))]
    if missing:
        packages = " ".join(needed[c] for c in missing)
        print(f"error: {', '.join(missing)} not found; install with: apt-get install {packages}")
        return 2

    facts = report.machine()
    plan = Plan.quick() if args.quick else Plan.full()
    progress = Console(stderr=True)
    started = time.monotonic()
    cases.settle()
    directory = Path(tempfile.mkdtemp(prefix="pygate-bench-"))
    rows: list[Row] = []
    try:
        upstream = origin.start(directory / "origin")
        try:
            bench = Bench(directory, upstream, peers, plan, lambda text: progress.print(text, style="dim"))
            for case in wanted:
                rows += run(bench, case)
        finally:
            upstream.stop()
    except (StartError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if args.keep:
            print(f"kept {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)

    console = Console(width=None if sys.stdout.isatty() else 180)
    report.table(rows, console)
    numbers, wrong = report.judge(rows, plan.reloads)
    if args.json:
        report.write_json(args.json, rows, facts, numbers, wrong)
    for text in wrong:
        print(f"missed: {text}")
    parts = {"bench": "missed" if wrong else "ok", **numbers, "void": str(sum(row.void for row in rows))}
    parts["seconds"] = f"{time.monotonic() - started:.0f}"
    print(" ".join(f"{key}={value}" for key, value in parts.items()))
    return 1 if wrong else 0


def run(bench: Bench, case: str) -> list[Row]:
    match case:
        case "memory":
            return cases.memory(bench)
        case "reload":
            return cases.reload(bench) if "pygate" in bench.peers else []
        case "body10m":
            return cases.loads(bench, "body10m") + cases.loads(bench, "body10m-up")
        case "tls" | "h2" | "ws" | "grpc":
            return protocols.PROTOCOLS[case](bench)
        case _:
            return cases.loads(bench, case)


if __name__ == "__main__":
    sys.exit(main())

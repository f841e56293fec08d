"""`python -m tests.ai.accounting`: is what calls were charged what they used, to the token and the dollar?

Many callers with keys of several teams and projects, some of which run out of budget, call models of four providers in
four dialects, whole and streamed; a share of them leaves in the middle, and some providers' streams break. Then four
accounts of it are compared (`judging`): the counters in shared memory, the audit log, the store's usage and the
provider's own ledger.

Exit codes: 0 they agree, 1 they do not, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from pygate._core import Shared, audit_calls
from tests.ai import callers, judging
from tests.ai.behind import AiGateway, behind
from tests.ai.judging import KINDS, Accounts, Limited
from tests.control.running import wait_for
from tests.providers.running import Simulator

QUICK = 2_000
WINDOW = "month"
ROOM = {"requests": 10**9, "input_tokens": 10**12, "output_tokens": 10**12, "total_tokens": 10**12, "nano_usd": 10**14}
#: Per call, about what a call needs: a budget of half of it runs out.
TIGHT = {"requests": 1.2, "input_tokens": 28, "output_tokens": 26, "total_tokens": 54, "nano_usd": 114_000}
#: Team, project and the kind that runs out.
KEYS = (
    ("alpha", "search", None),
    ("alpha", "chat", None),
    ("alpha", "search", "requests"),
    ("beta", "chat", "total_tokens"),
    ("beta", "search", "nano_usd"),
    ("beta", "chat", "output_tokens"),
    ("gamma", "search", None),
    ("gamma", "chat", "input_tokens"),
)
#: Streams are slow enough to be left, and some break; others are complete, but come in an unusual form.
FAULTS: tuple[dict[str, Any], ...] = (
    {"stream": True, "delay_delta": 1.0},
    {"provider": "openai", "stream": True, "every": 41, "cut_deltas": 7},
    {"provider": "anthropic", "stream": True, "every": 43, "error_after": 9},
    {"provider": "bedrock", "stream": True, "every": 47, "cut_deltas": 5, "cut_by": "reset"},
    {"provider": "gemini", "stream": False, "every": 53, "status": 400},
    {"stream": True, "every": 19, "usage": "repeat"},
    {"stream": True, "every": 23, "newline": "crlf", "comments": True},
    {"every": 29, "write": 7},
    {"stream": True, "every": 31, "multiline": True, "bom": True},
)


def main() -> int:
    args = arguments()
    began = time.monotonic()
    prices = "\n[ai.prices]\n" + "".join(
        f'"{model}" = {{ {", ".join(f"{name} = {json.dumps(rate)}" for name, rate in rates.items())} }}\n'
        for model, rates in judging.PRICES.items()
    )
    with Simulator() as simulator, behind(simulator.url, more=prices) as gateway:
        simulator.faults(*FAULTS)
        secrets, limits = make_keys(gateway, args.calls)
        calls = callers.plan(args.calls, len(KEYS), args.abort, args.seed)
        got = drive(gateway.port, calls, secrets, args.at_once)
        accounts = gather(gateway, simulator, len(calls), limits)
        report = judging.judge(calls, got, accounts)
    for fault in report.faults[:20]:
        print(fault, file=sys.stderr)
    if len(report.faults) > 20:
        print(f"and {len(report.faults) - 20} more", file=sys.stderr)
    told = report.numbers | {"seconds": round(time.monotonic() - began, 1)}
    if args.json:
        args.json.write_text(json.dumps({"ok": report.ok, **told, "faults": report.faults}, indent=2) + "\n")
    names = (
        "calls",
        "clean",
        "aborted",
        "cut",
        "failed",
        "refused",
        "input",
        "output",
        "nano_usd",
        "difference",
        "seconds",
    )
    print(f"accounting={'ok' if report.ok else 'failed'} " + " ".join(f"{name}={told[name]}" for name in names))
    return 0 if report.ok else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.ai.accounting",
        description="Calls of models by many callers, some of whom leave in the middle; then settlements, audit log,"
        " usage and the provider's own ledger are compared. Exit code 1: they differ.",
        epilog="examples:\n  python -m tests.ai.accounting --calls 20000 --abort 0.2 --json FILE\n"
        "  python -m tests.ai.accounting --quick",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, metavar="N", help="how many (default: 20000, or 2000 with --quick)")
    parser.add_argument("--abort", type=float, default=0.2, metavar="SHARE", help="of callers that leave (0.2)")
    parser.add_argument("--at-once", type=int, default=64, metavar="N", help="callers (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the calls' random numbers (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer calls")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write numbers and faults there")
    args = parser.parse_args()
    args.calls = args.calls or (QUICK if args.quick else 20_000)
    if args.calls < 200 or not 0 <= args.abort <= 1 or args.at_once < 1:
        parser.error("wanted are at least 200 calls, a share from 0 to 1 and a caller")
    return args


def make_keys(gateway: AiGateway, calls: int) -> tuple[list[str], list[Limited]]:
    """Secrets of the keys, and every limit there is: all scopes count everything."""
    share = calls / len(KEYS)
    limits: list[Limited] = []

    def terms(tight: str | None, keys: int = 1) -> list[dict[str, Any]]:
        most = dict(ROOM)
        if tight is not None:
            most[tight] = int(TIGHT[tight] * share * keys * (0.5 if keys == 1 else 0.6))
        return [{"kind": kind, "window": WINDOW, "max": most[kind]} for kind in KINDS]

    def note(scope: str, given: list[dict[str, Any]]) -> None:
        limits.extend(Limited(scope, one["kind"], one["max"], one["max"] < ROOM[one["kind"]]) for one in given)

    for kind, names in (("team", ("alpha", "beta", "gamma")), ("project", ("search", "chat"))):
        for name in names:
            given = terms("input_tokens" if name == "gamma" else None, 2)
            gateway.admin("POST", f"/ai/{kind}s", {"name": name, "limits": given})
            note(f"{kind}:{name}", given)
    secrets = []
    for number, (team, project, tight) in enumerate(KEYS):
        given = terms(tight)
        identifier, secret = gateway.key(f"k{number}", team=team, project=project, limits=given)
        note(f"key:{identifier}", given)
        secrets.append(secret)
    return secrets, limits


def drive(port: int, calls: list[callers.Asked], secrets: list[str], at_once: int) -> list[callers.Got]:
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("calls", total=len(calls))
        return asyncio.run(callers.run(port, calls, secrets, at_once, lambda: progress.advance(task)))


def gather(gateway: AiGateway, simulator: Simulator, calls: int, limits: list[Limited]) -> Accounts:
    """The four accounts, once everything has ended and was added up."""

    def recorded() -> list[dict[str, Any]]:
        found = audit_calls(gateway.directory / "audit", limit=4 * calls)
        found = [one for one in found if one.get("llm") and one.get("complete")]
        return found if len(found) >= calls else []

    audit: list[dict[str, Any]] = wait_for(recorded, f"{calls} calls in the audit log", 30)
    wait_for(lambda: all(entry["ended_ms"] is not None for entry in simulator.ledger()), "the provider is at rest")

    def added_up() -> dict[str, Any]:
        command = [sys.executable, "-m", "pygate.cli.main", "usage", "-c", str(gateway.config), "--json"]
        done = subprocess.run([*command, "--by", "key,team,project"], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        told: dict[str, Any] = json.loads(done.stdout)
        return told if told["total"]["requests"] + told["total"]["refused"] >= calls else {}

    usage: dict[str, Any] = wait_for(added_up, f"{calls} calls in the store's usage", 30)
    shared = Shared.open(gateway.run_dir / "shared")
    for limit in limits:
        limit.used = shared.budget_used(limit.scope, limit.kind, WINDOW)
    return Accounts(limits, audit, usage, simulator.ledger(), simulator.ask("GET", "/__ledger/sums"))


if __name__ == "__main__":
    sys.exit(main())

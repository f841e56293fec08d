"""What calls were charged is what they used: the command itself, and that it would notice if it were not."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ai import judging
from tests.ai.callers import AGENT, Asked, Got
from tests.ai.judging import KINDS, Accounts, Limited
from tests.providers.running import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.ai.accounting", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)


@pytest.mark.timeout(120)
def test_four_accounts_agree(tmp_path: Path) -> None:
    done = run("--quick", "--json", str(tmp_path / "told.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("accounting=ok calls=2000 ") and " difference=0 " in last
    told = json.loads((tmp_path / "told.json").read_text())
    # It was worth comparing: every way to end is there.
    assert told["clean"] > 500 and told["aborted"] > 100 and told["refused"] > 50 and told["cut"] and told["failed"]


def test_its_arguments() -> None:
    assert run("--calls", "10").returncode == 2
    assert run("--abort", "2").returncode == 2
    assert "--json FILE" in run("--help").stdout


ASKED = Asked(0, 0, "anthropic", "claude", True, "be terse", 4, 64)
LEAVER = Asked(1, 0, "anthropic", "claude", True, "be terse", 20, 64, 5)


def record(asked: Asked, output: int, end: str, input: int = 5) -> dict[str, Any]:
    owner = {"key": "key_1", "team": "alpha", "project": "search", "model": "claude", "target": "claude-sonnet-5-5"}
    llm = owner | dict.fromkeys(judging.TOKENS, 0) | {"input": input, "output": output, "end": end}
    llm |= {"nano_usd": (2 * input + 10 * output) * 1000, "estimated": end != "clean"}
    return {"user_agent": f"{AGENT}{asked.number}", "llm": llm}


def entry(asked: Asked, used: int, sent: int) -> dict[str, Any]:
    usage = dict.fromkeys(judging.TOKENS, 0) | {"input": 5}
    told = {"usage": usage | {"output": used}, "sent": usage | {"output": sent}, "status": 200}
    return told | {"agent": f"{AGENT}{asked.number}"}


def made() -> Accounts:
    """A call that ended, and one whose client left after five of twenty tokens, of which the provider wrote eight."""
    audit = [record(ASKED, 4, "clean"), record(LEAVER, 5, "client")]
    ledger = [entry(ASKED, 4, 4), entry(LEAVER, 20, 8)]
    sums = {"requests": 2, "input_tokens": 10, "output_tokens": 9, "nano_usd": 110_000}
    row = {"key": "key_1", "team": "alpha", "project": "search", **sums}
    usage = {"rows": [row], "total": sums | {"refused": 0, "unpriced": 0, "estimated": 1}}
    used = dict(zip(KINDS, (2, 10, 9, 19, 110), strict=True))
    scopes = ("key:key_1", "team:alpha", "project:search")
    limits = [Limited(scope, kind, 10**9, False, used[kind]) for scope in scopes for kind in KINDS]
    total = {"total": dict.fromkeys(judging.TOKENS, 0) | {"input": 10, "output": 24}}
    return Accounts(limits, audit, usage, ledger, total)


def judge(accounts: Accounts) -> judging.Report:
    whole, part = Got(200, "1 2 3 4", complete=True), Got(200, "1 2 3 4 5 ", left=True)
    return judging.judge([ASKED, LEAVER], [whole, part], accounts)


def llm(number: int, **members: Any) -> Callable[[Accounts], None]:
    return lambda accounts: accounts.audit[number]["llm"].update(members)


def counter(accounts: Accounts) -> None:
    accounts.limits[2].used += 1


def budget(accounts: Accounts) -> None:
    accounts.limits[0].max = 0


def stranger(accounts: Accounts) -> None:
    accounts.ledger.append(accounts.ledger[0] | {"agent": f"{AGENT}7"})


def lost(accounts: Accounts) -> None:
    accounts.audit.pop()


WRONG: dict[str, tuple[Callable[[Accounts], None], str]] = {
    "a settlement": (counter, "key:key_1 output_tokens: settlements, audit, usage: 10 != 9 != 9"),
    "a clean call": (llm(0, output=5), "call 0 (anthropic, claude, clean): output: 5 != 4"),
    "a price": (llm(0, nano_usd=50_001), "call 0 (anthropic, claude, clean): nano_usd: 50001 != 50000"),
    "no price": (llm(0, nano_usd=None), "call 0 (anthropic, claude, clean): nano_usd: -1 != 50000"),
    "too little of an aborted call": (llm(1, output=2), "output 2 is not within 3 and 8"),
    "too much of an aborted call": (llm(1, output=9), "output 9 is not within 3 and 8"),
    "its input": (llm(1, input=6), "input 6 is none of"),
    "a lost call": (lost, "calls made, recorded once: 2 != 1 != 1"),
    "a call twice": (lambda accounts: accounts.audit.append(copy.deepcopy(accounts.audit[0])), "2 != 2 != 3"),
    "usage": (lambda accounts: accounts.usage["rows"][0].update(nano_usd=1), "nano_usd: audit, usage: 110000 != 1"),
    "a budget": (budget, "key:key_1 requests: 2 of 0 used"),
    "a call nobody recorded": (stranger, "the provider was asked for calls that are not recorded so"),
}


def test_what_agrees() -> None:
    report = judge(made())
    assert report.ok and report.difference == 0, report.faults
    assert (report.numbers["clean"], report.numbers["aborted"], report.numbers["output"]) == (1, 1, 9)


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not(name: str) -> None:
    break_it, expected = WRONG[name]
    accounts = made()
    break_it(accounts)
    report = judge(accounts)
    assert not report.ok and any(expected in fault for fault in report.faults), report.faults

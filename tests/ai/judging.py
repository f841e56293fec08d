"""Four accounts of the same calls, compared. What has to hold:

1. Counters in shared memory, the audit log and the store's usage are equal for every key, team and project: requests,
   input, output and all tokens, money. A counter of money holds millionths of a dollar, each call's rounded up.
2. A call that ended cleanly has, in the audit log, exactly the tokens that the provider counted, and costs what the
   prices say; a refused one has none and no provider has seen it.
3. A call that was aborted, cut or failed in the middle is charged within what was on the wire. Input: what the provider
   said, or the gateway's estimate of the prompt. Output: no less than the estimate of what the client got, no more than
   what the provider wrote until it noticed: its tokens, or their estimate where the provider did not say a number.
4. No budget is exceeded by more than one call's estimate, and those that are tight were worth refusing for.

Estimates are the gateway's: a token per four bytes of text, four tokens per message.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.ai.callers import AGENT, Asked, Got

KINDS = ("requests", "input_tokens", "output_tokens", "total_tokens", "nano_usd")
TOKENS = ("input", "output", "cached_read", "cached_write", "reasoning")
PRICES = {
    "gpt-5-mini": {"input": "0.25", "output": "2", "cached_read": "0.025"},
    "claude-sonnet-5-5": {"input": "2", "output": "10", "cached_read": "0.1", "cached_write": "2.5"},
    "gemini-2.5-flash": {"input": "0.3", "output": "2.5", "cached_read": "0.03"},
    "amazon.nova-lite-v1:0": {"input": "0.06", "output": "0.24", "cached_read": "0.015", "cached_write": "0.075"},
    "text-embedding-3-small": {"input": "0.02"},
}
"""USD per million tokens."""
DEAREST = 10_000
"""Nano-USD of the dearest token."""
MONEY = 1_000
"""Nano-USD of a unit of a money counter."""


@dataclass
class Limited:
    """A limit of a scope, and what its counter says."""

    scope: str
    kind: str
    max: int
    tight: bool
    used: int = 0


@dataclass
class Accounts:
    limits: list[Limited]
    audit: list[dict[str, Any]]
    usage: dict[str, Any]
    ledger: list[dict[str, Any]]
    sums: dict[str, Any]


@dataclass
class Report:
    faults: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    difference: int = 0

    @property
    def ok(self) -> bool:
        return not self.faults

    def equal(self, what: str, *values: int) -> None:
        if len(set(values)) > 1:
            self.difference += max(values) - min(values)
            self.faults.append(f"{what}: {' != '.join(map(str, values))}")

    def holds(self, condition: bool, what: str) -> None:
        if not condition:
            self.faults.append(what)


def judge(calls: list[Asked], got: list[Got], accounts: Accounts) -> Report:
    report = Report()
    records = {one["user_agent"]: one for one in accounts.audit}
    entries: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in accounts.ledger:
        entries[entry["agent"]].append(entry)
    report.equal("calls made, recorded once", len(calls), len(records), len(accounts.audit))
    ends: Counter[str] = Counter()
    for asked, came in zip(calls, got, strict=True):
        name = f"{AGENT}{asked.number}"
        if (record := records.get(name)) is not None:
            ends[_one(report, asked, came, record, entries[name])] += 1
    _scopes(report, accounts)
    _provider(report, accounts)
    _budgets(report, accounts, calls)
    told = accounts.usage["total"]
    report.equal("refused: audit, usage", ends["refused"], told["refused"])
    llm = [one["llm"] for one in accounts.audit]
    report.numbers = {
        "calls": len(calls),
        "clean": ends["clean"],
        "aborted": ends["client"],
        "cut": ends["cut"],
        "failed": ends["error"],
        "refused": ends["refused"],
        "estimated": told["estimated"],
        "input": sum(one["input"] for one in llm),
        "output": sum(one["output"] for one in llm),
        "nano_usd": sum(one["nano_usd"] or 0 for one in llm),
        "difference": report.difference,
    }
    return report


def _one(report: Report, asked: Asked, got: Got, record: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    """Rules 2 and 3 for a call; how it ended."""
    llm, what = record["llm"], f"call {asked.number} ({asked.dialect}, {asked.model}, {record['llm']['end']})"
    tokens = [llm[name] for name in TOKENS]
    if not llm["target"]:
        report.holds(not entries and not any(tokens) and llm["nano_usd"] == 0, f"{what}: refused, but {llm}")
        report.holds(got.status == 429 or got.left, f"{what}: refused, but the client got {got}")
        return "refused"
    report.holds(got.status != 429, f"{what}: not refused, but the client got {got}")
    report.equal(f"{what}: nano_usd", llm["nano_usd"] if llm["nano_usd"] is not None else -1, price(llm))
    end = str(llm["end"])
    if end == "clean":
        for name in TOKENS:
            report.equal(f"{what}: {name}", llm[name], sum(entry["usage"][name] for entry in entries))
        report.holds(not llm["estimated"], f"{what}: estimated")
        report.holds(got.complete or got.left, f"{what}: the client got {got}")
        return end
    report.holds(not got.complete, f"{what}: the client was told it was complete")
    written = entries[-1] if entries else {"sent": dict.fromkeys(TOKENS, 0), "usage": dict.fromkeys(TOKENS, 0)}
    if entries and entries[-1]["status"] >= 400:
        report.holds(not any(tokens), f"{what}: the provider refused, but {llm}")
        return end
    guess = prompt_estimate(asked)
    inputs = {guess, written["usage"]["input"]} if entries else {guess, 0}
    inputs |= {before + now for before in inputs for now in inputs} if len(entries) > 1 else set()
    report.holds(llm["input"] in inputs, f"{what}: input {llm['input']} is none of {inputs}")
    least = estimate(len(got.text))
    # An attempt that was given up had been answered, too.
    sent = sum(entry["sent"]["output"] for entry in entries)
    most = max(sent, estimate(len("".join(asked.answer[:sent]))))
    # Anthropic says at once that there is a token, before it is on the wire.
    most = max(most, 1) if entries else 0
    report.holds(
        least <= llm["output"] <= most, f"{what}: output {llm['output']} is not within {least} and {most}, got {got}"
    )
    return end


def _scopes(report: Report, accounts: Accounts) -> None:
    """Rule 1."""
    audit: Counter[tuple[str, str]] = Counter()
    nano: Counter[str] = Counter()
    for one in accounts.audit:
        llm = one["llm"]
        cost = llm["nano_usd"] or 0
        values = (int(bool(llm["target"])), llm["input"], llm["output"], llm["input"] + llm["output"])
        for scope in _owners(llm["key"], llm["team"], llm["project"]):
            nano[scope] += cost
            for kind, value in zip(KINDS, (*values, -(-cost // MONEY)), strict=True):
                audit[scope, kind] += value
    usage: Counter[tuple[str, str]] = Counter()
    for row in accounts.usage["rows"]:
        values = (
            row["requests"],
            row["input_tokens"],
            row["output_tokens"],
            row["input_tokens"] + row["output_tokens"],
        )
        for scope in _owners(row["key"], row["team"], row["project"]):
            for kind, value in zip(KINDS, (*values, row["nano_usd"]), strict=True):
                usage[scope, kind] += value
    for limit in accounts.limits:
        place = (limit.scope, limit.kind)
        if limit.kind == "nano_usd":
            report.equal(f"{limit.scope} nano_usd: audit, usage", nano[limit.scope], usage[place])
            report.equal(f"{limit.scope} millionths of USD: settlements, audit", limit.used, audit[place])
        else:
            report.equal(
                f"{limit.scope} {limit.kind}: settlements, audit, usage", limit.used, audit[place], usage[place]
            )
    report.equal("unpriced", accounts.usage["total"]["unpriced"], 0)


def _owners(key: str, team: str, project: str) -> tuple[str, str, str]:
    return f"key:{key}", f"team:{team}", f"project:{project}"


def _provider(report: Report, accounts: Accounts) -> None:
    """Its sums are those of its entries, and none of them is unknown to the audit log."""
    total = accounts.sums["total"]
    for name in TOKENS:
        report.equal(
            f"the provider's {name}", total.get(name, 0), sum(entry["usage"][name] for entry in accounts.ledger)
        )
    known = {one["user_agent"] for one in accounts.audit if one["llm"]["target"]}
    strangers = {entry["agent"] for entry in accounts.ledger} - known
    report.holds(not strangers, f"the provider was asked for calls that are not recorded so: {sorted(strangers)[:5]}")


def _budgets(report: Report, accounts: Accounts, calls: list[Asked]) -> None:
    """Rule 4."""
    prompt, output = max(map(prompt_estimate, calls)), max(asked.limit for asked in calls)
    dearest = (prompt + output) * DEAREST // MONEY
    estimates = dict(zip(KINDS, (1, prompt, output, prompt + output, dearest), strict=True))
    for limit in accounts.limits:
        most = limit.max // MONEY if limit.kind == "nano_usd" else limit.max
        over = limit.used - most
        report.holds(over <= estimates[limit.kind], f"{limit.scope} {limit.kind}: {limit.used} of {most} used")
        if limit.tight:
            report.holds(limit.used * 2 > most, f"{limit.scope} {limit.kind}: only {limit.used} of {most} used")


def estimate(octets: int) -> int:
    return -(-octets // 4)


def prompt_estimate(asked: Asked) -> int:
    if asked.dialect == "embeddings":
        return estimate(len(asked.system))
    messages = 2 if asked.dialect == "openai" else 1
    return estimate(len(asked.system) + len(asked.text)) + 4 * messages


def price(llm: dict[str, Any]) -> int:
    """Nano-USD, rounded up."""
    rates = PRICES[llm["target"]]
    plain = llm["input"] - llm["cached_read"] - llm["cached_write"]
    counts = {"input": plain, "output": llm["output"]}
    counts |= {name: llm[name] for name in ("cached_read", "cached_write")}
    # A millionth of a dollar per million tokens is a pico-dollar per token.
    pico = sum(Decimal(rates[name]) * 1_000_000 * count for name, count in counts.items() if count)
    return -(-int(pico) // 1000)

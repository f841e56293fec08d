"""What the proxies meant and what the origins saw, held against each other.

Of every request that an origin has parsed it is known which proxy it came through (by port), which entries it came from
(by their tags, wherever they stand in it), and whether it bears a fresh id of that proxy. From that:

* **smuggled** – a request without the proxy's id, with more than one, or with one that another request bears, too: the
  origin found a request where the proxy saw none. One request in two copies that are alike is the proxy's retry.
* **crossed** – a request with bytes of two entries, or an answer with another entry's: connections got out of step.
* **differs** – two origins behind the same proxy read an entry as different requests, so that at least one of them
  disagrees with the proxy.
* **stricter** – one origin has parsed fewer of the same requests: it refused what the proxy let pass. No disagreement.

For pygate the audit log says what it meant, request by request: see `audited`.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pygate import audit
from tests.differential.client import Trial
from tests.differential.corpus import Entry

Seen = dict[str, Any]
Pair = tuple[str, str]
"""(proxy, origin)"""

_TAG = re.compile(r"t(\d{5})(?!\d)")


@dataclass
class Finding:
    """One disagreement."""

    kind: str
    proxy: str
    origin: str
    entry: str
    what: str


@dataclass
class Evidence:
    """Everything a run has brought."""

    entries: list[Entry]
    trials: dict[Pair, list[Trial | None]]
    #: By pair, in the order of the journal.
    seen: dict[Pair, list[Seen]] = field(default_factory=dict)
    #: pygate's calls, by exchange id.
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)


def tags(seen: Seen) -> set[int]:
    """Numbers of the entries whose bytes are in a request."""
    # The values of the proxies' own ids may hold anything.
    fields = [value for name, value in seen["headers"] if not name.endswith("-id") and name != "traceparent"]
    names = [name for name, _ in seen["headers"]]
    text = "\n".join([seen["method"], seen["target"], seen["body"], *names, *fields])
    return {int(number) for number in _TAG.findall(text)}


def read_journal(path: Path, proxies: dict[int, str]) -> dict[str, list[Seen]]:
    """The requests in an origin's journal, by proxy."""
    found: dict[str, list[Seen]] = defaultdict(list)
    for line in path.read_text().splitlines():
        seen = json.loads(line)
        found[proxies.get(seen["port"], "?")].append(seen)
    return found


def by_entry(evidence: Evidence, pair: Pair) -> dict[int, list[Seen]]:
    """A pair's requests by the entry they came from; those of none under -1."""
    found: dict[int, list[Seen]] = defaultdict(list)
    for seen in evidence.seen.get(pair, []):
        found[min(tags(seen), default=-1)].append(seen)
    return found


def judge(evidence: Evidence, id_fields: dict[str, str], audit_dir: Path | None) -> list[Finding]:
    """All findings of a run."""
    found: list[Finding] = []
    for proxy, origin in evidence.trials:
        if proxy != "direct":
            found += _smuggled(evidence, proxy, origin, id_fields[proxy])
            found += _crossed(evidence, proxy, origin)
    for proxy in dict.fromkeys(proxy for proxy, _ in evidence.trials):
        found += _differing(evidence, proxy)
    if audit_dir is not None:
        evidence.calls = {call["exchange"]: call for call in audit.query(audit_dir, limit=100_000_000)}
        for proxy, origin in evidence.trials:
            if proxy == "pygate":
                found += audited(evidence, origin)
    return found


def _name(evidence: Evidence, number: int) -> str:
    return evidence.entries[number].name if 0 <= number < len(evidence.entries) else "?"


def _line(seen: Seen) -> str:
    size = f"{seen['length']} bytes" if seen["complete"] else f"{seen['length']} bytes and no end"
    return f"{seen['method']} {seen['target'][:60]} ({size})"


def _ids(seen: Seen, field_name: str) -> list[str]:
    return [value for name, value in seen["headers"] if name == field_name]


def _smuggled(evidence: Evidence, proxy: str, origin: str, field_name: str) -> list[Finding]:
    found: list[Finding] = []
    first: dict[str, Seen] = {}
    for seen in evidence.seen.get((proxy, origin), []):
        entry = _name(evidence, min(tags(seen), default=-1))
        ids = _ids(seen, field_name)
        if len(ids) != 1:
            what = f"{_line(seen)} bears {len(ids)} of the proxy's ids"
            found.append(Finding("smuggled", proxy, origin, entry, what))
            continue
        before = first.setdefault(ids[0], seen)
        same = ("method", "target", "length", "sha", "complete")
        if before is not seen and (before["peer"] == seen["peer"] != 0 or any(before[k] != seen[k] for k in same)):
            found.append(Finding("smuggled", proxy, origin, entry, f"{_line(before)} came again as {_line(seen)}"))
    return found


def _crossed(evidence: Evidence, proxy: str, origin: str) -> list[Finding]:
    found = []
    for seen in evidence.seen.get((proxy, origin), []):
        if len(numbers := tags(seen)) > 1:
            names = " and ".join(repr(_name(evidence, number)) for number in sorted(numbers))
            found.append(Finding("crossed", proxy, origin, _name(evidence, min(numbers)), f"bytes of {names} in one"))
    for number, trial in enumerate(evidence.trials[proxy, origin]):
        if trial is None:
            continue
        for answer in trial.answers + trial.probes:
            if answer.seen and tags(answer.seen) - {number}:
                what = f"got an answer to {_line(answer.seen)}"
                found.append(Finding("crossed", proxy, origin, _name(evidence, number), what))
        if trial.probed:
            probes = [a.seen.get("target", f"status {a.status}") for a in trial.probes]
            if len(probes) != 1 or not probes[0].endswith("/probe"):
                what = f"the request that followed was answered with {', '.join(probes) or 'nothing'}"
                found.append(Finding("crossed", proxy, origin, _name(evidence, number), what))
    return found


def _differing(evidence: Evidence, proxy: str) -> list[Finding]:
    """Entries that two origins read as different complete requests."""
    origins = [origin for name, origin in evidence.trials if name == proxy]
    requests = {origin: by_entry(evidence, (proxy, origin)) for origin in origins}
    found = []
    for number, entry in enumerate(evidence.entries):
        readings = {origin: _reading(requests[origin].get(number, [])) for origin in origins}
        longest = max(readings.values(), key=len)
        for origin, reading in readings.items():
            if sorted(reading) == sorted(longest):
                continue
            # As multisets: what came over different connections has no order.
            kind = "differs" if Counter(reading) - Counter(longest) else "stricter"
            other = next(o for o in origins if readings[o] == longest)
            what = f"{_tell(reading)}; {other} reads {_tell(longest)}"
            found.append(Finding(kind, proxy, origin, entry.name, what))
    return found


def _reading(requests: list[Seen]) -> list[tuple[str, str, int, str]]:
    unique = {tuple(_ids(r, "x-fresh-id") + _ids(r, "x-request-id")) or (str(n),): r for n, r in enumerate(requests)}
    complete = [r for r in unique.values() if r["complete"]]
    # uvicorn does not show an empty query.
    return [(r["method"], r["target"].removesuffix("?"), r["length"], r["sha"]) for r in complete]


def _tell(reading: list[tuple[str, str, int, str]]) -> str:
    return ", ".join(f"{method} {target[:40]} ({length} bytes)" for method, target, length, _ in reading) or "nothing"


def audited(evidence: Evidence, origin: str) -> list[Finding]:
    """Everything the origin saw is a call in pygate's log with this method, path and body, and the other way round."""
    found = []
    calls = {i: call for i, call in evidence.calls.items() if call.get("entrypoint") == origin}
    seen_ids: Counter[str] = Counter()

    def report(seen: Seen | None, number: int, what: str) -> None:
        text = f"{_line(seen)}: {what}" if seen else what
        found.append(Finding("audit", "pygate", origin, _name(evidence, number), text))

    for seen in evidence.seen.get(("pygate", origin), []):
        number, ids = min(tags(seen), default=-1), _ids(seen, "x-request-id")
        call = calls.get(ids[0]) if len(ids) == 1 else None
        if call is None:
            report(seen, number, "not in the audit log")
            continue
        seen_ids[ids[0]] += 1
        if seen_ids[ids[0]] > call.get("attempts", 1):
            report(seen, number, f"seen {seen_ids[ids[0]]} times, attempted {call.get('attempts')}")
        if (seen["method"], seen["target"].partition("?")[0]) != (call.get("method"), call.get("path")):
            report(seen, number, f"meant as {call.get('method')} {call.get('path')}")
        meant = call.get("request_bytes", 0)
        if seen["complete"] and seen["length"] != meant:
            report(seen, number, f"its body was meant to have {meant} bytes")
    for number, trial in enumerate(evidence.trials["pygate", origin]):
        for answer in trial.answers if trial else []:
            ids = _ids(answer.seen, "x-request-id") if answer.seen else []
            if ids and ids[0] not in calls:
                report(answer.seen, number, "answered, but not in the audit log")
    answers = sum(len(trial.answers) + len(trial.probes) for trial in evidence.trials["pygate", origin] if trial)
    if answers > sum(bool(call.get("status")) for call in calls.values()):
        report(None, -1, f"clients got {answers} answers, the log has fewer")
    for identity, call in calls.items():
        # Answered by the application itself, so it must have written the request down.
        if call.get("status") == 200 and not call.get("code") and not seen_ids[identity]:
            report(None, -1, f"the log has {call.get('method')} {call.get('path')} answered, the origin saw nothing")
    return found


def counts(evidence: Evidence, proxy: str) -> Counter[str]:
    """How the entries fared, over all origins: refused by the proxy, by the origin, passed, silent."""
    found: Counter[str] = Counter()
    for (name, _), trials in evidence.trials.items():
        if name != proxy:
            continue
        for trial in trials:
            first = trial.answers[0] if trial and trial.answers else None
            if first is None:
                found["closed" if trial and trial.closed else "silent"] += 1
            elif first.origin:
                found["served"] += 1
            else:
                found["refused"] += 1
    return found

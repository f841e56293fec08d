"""The report in docs/security/differential.md, made from a run."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.differential.judge import Finding, counts
from tests.differential.run import Result

#: Entries named per kind and proxy; the JSON form has all.
SHOWN = 12
#: What pygate has learnt from this test.
PUT_RIGHT = (
    "methods with a lower-case letter are refused – aiohttp read `get` as GET and handed `delete` to what "
    "handles DELETE, which no route or policy on methods had seen",
)
KINDS = {
    "smuggled": "requests the proxy did not mean to send",
    "crossed": "answers or bytes of another entry",
    "differs": "origins behind it read different requests",
    "audit": "differs from what the audit log says was meant",
}


def summary(result: Result) -> dict[str, Any]:
    """The numbers of a run."""
    proxies = list(dict.fromkeys(proxy for proxy, _ in result.evidence.trials))
    by_kind = {proxy: Counter(f.kind for f in result.findings if f.proxy == proxy) for proxy in proxies}
    return {
        "entries": len(result.evidence.entries),
        "pairs": len(result.evidence.trials),
        "trials": sum(trial is not None for trials in result.evidence.trials.values() for trial in trials),
        "complete": result.complete,
        "seconds": round(result.seconds, 1),
        "counts": {proxy: dict(counts(result.evidence, proxy)) for proxy in proxies},
        "entries_by_kind": {proxy: _entries(result.findings, proxy) for proxy in proxies},
        "findings": {proxy: dict(kinds) for proxy, kinds in by_kind.items()},
    }


def _entries(findings: list[Finding], proxy: str) -> dict[str, int]:
    """Entries with a finding, by kind."""
    names: dict[str, set[str]] = defaultdict(set)
    for finding in findings:
        if finding.proxy == proxy:
            names[finding.kind].add(finding.entry)
    return {kind: len(entries) for kind, entries in names.items()}


def write_json(result: Result, versions: dict[str, str], path: Path) -> None:
    """Everything, for machines."""
    whole = summary(result) | {"versions": versions, "all": [vars(finding) for finding in result.findings]}
    path.write_text(json.dumps(whole, indent=1) + "\n")


def write_report(result: Result, versions: dict[str, str], path: Path) -> None:
    """The page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(result, versions))


def page(result: Result, versions: dict[str, str]) -> str:
    numbers = summary(result)
    proxies = [proxy for proxy in numbers["counts"] if proxy != "direct"]
    origins = list(dict.fromkeys(origin for _, origin in result.evidence.trials))
    lines = [
        "# Differential test: who reads a request how",
        "",
        f"Made by `python -m tests.differential --report docs/security/differential.md` on "
        f"{datetime.now(UTC):%Y-%m-%d}; do not edit.",
        "",
        f"{numbers['entries']} inputs – {_sections(result)} – through each proxy to each origin, on one connection per "
        f"input with an ordinary request behind it, and another on a connection of its own after it: "
        f"{numbers['trials']} trials in {numbers['seconds']:.0f} s.",
        "",
        "**The claim:** no input exists where pygate and the origin behind it disagree on how many requests there "
        "were, or on method, path or body of one. pygate's side of it is its audit log, compared record by record with "
        f"what the origins' applications wrote down. Disagreements found: **{len(disagreements(result.pygate))}**.",
        "",
        "| server | version | parser |",
        "|---|---|---|",
        *(f"| {name} | {versions.get(name, '')} | {_PARSERS.get(name, '')} |" for name in [*proxies, *origins]),
        "",
        "## Numbers",
        "",
        "Per input and origin, the first answer: *served* by the origin's application, *refused* by the proxy or by "
        "the origin's server, the connection *closed* without one, or *silence* (the input was never complete). "
        "*Direct* is no proxy at all.",
        "",
        "| proxy | served | refused | closed | silence |",
        "|---|---|---|---|---|",
    ]
    for proxy, count in numbers["counts"].items():
        values = " | ".join(str(count.get(key, 0)) for key in ("served", "refused", "closed", "silent"))
        lines.append(f"| {proxy} | {values} |")
    lines += [
        "",
        "Inputs on which proxy and origin, or two origins behind the proxy, disagree. *Stricter* is no disagreement: "
        "an origin refused what the proxy let pass.",
        "",
        "| proxy | smuggled | crossed | differs | stricter origin |",
        "|---|---|---|---|---|",
    ]
    for proxy, kinds in numbers["entries_by_kind"].items():
        cells = [str(kinds.get(key, 0)) for key in ("smuggled", "crossed", "differs", "stricter")]
        if proxy == "direct":
            cells[:2] = ["–", "–"]
        if proxy == "pygate":
            cells[2] = str(kinds.get("differs", 0) + kinds.get("audit", 0))
        lines.append(f"| {proxy} | {' | '.join(cells)} |")
    lines += ["", "## Findings", "", "Those of other proxies concern the versions above in their default settings.", ""]
    for proxy in [*proxies, "direct"]:
        lines += _of(result, proxy)
    lines += [
        "## To repeat it",
        "",
        "```console",
        "$ make packages                     # nginx, HAProxy, Caddy, Node; Envoy and the Python origins are in .venv",
        "$ .venv/bin/python -m tests.differential",
        "$ .venv/bin/python -m tests.differential --quick    # a part, with three origins",
        "$ .venv/bin/python -m tests.differential --entry 'length: two equal lengths'",
        "```",
        "",
        "It ends with code 1 when pygate and an origin disagree. The inputs are in `tests/differential/corpus.py`, "
        "what counts as what in `tests/differential/judge.py`.",
    ]
    return "\n".join(lines) + "\n"


def disagreements(findings: list[Finding]) -> list[Finding]:
    """Without differences of strictness."""
    return [finding for finding in findings if finding.kind != "stricter"]


def _sections(result: Result) -> str:
    sections = Counter(entry.section for entry in result.evidence.entries)
    return ", ".join(f"{number} {name}" for name, number in sections.items())


def _of(result: Result, proxy: str) -> list[str]:
    mine = [f for f in result.findings if f.proxy == proxy]
    grave = disagreements(mine)
    title = "Without a proxy" if proxy == "direct" else proxy
    lines = [f"### {title}", ""]
    if not grave:
        lines += ["None.", ""]
    if proxy == "pygate":
        lines += [f"Found by earlier runs and put right: {'; '.join(PUT_RIGHT)}.", ""]
    for kind, what in KINDS.items():
        of_kind = [f for f in grave if f.kind == kind]
        if not of_kind:
            continue
        entries: dict[str, Finding] = {}
        origins: dict[str, list[str]] = defaultdict(list)
        for finding in of_kind:
            entries.setdefault(finding.entry, finding)
            if finding.origin not in origins[finding.entry]:
                origins[finding.entry].append(finding.origin)
        lines += [f"{kind.capitalize()} – {what}:", ""]
        for name, finding in list(entries.items())[:SHOWN]:
            lines.append(f"- {_code(name)} ({', '.join(origins[name])}): {_cut(finding.what)}")
        if len(entries) > SHOWN:
            lines.append(f"- and {len(entries) - SHOWN} more inputs")
        lines.append("")
    stricter = Counter(f.origin for f in mine if f.kind == "stricter")
    if stricter and proxy != "direct":
        counted = ", ".join(f"{origin} {number}" for origin, number in stricter.most_common())
        lines += [f"Inputs it passed that an origin refused: {counted}.", ""]
    return lines


def _code(text: str) -> str:
    return f"`{text.replace('`', '´')}`"


def _cut(text: str) -> str:
    text = text.replace("`", "´").replace("|", "\\|")
    return text if len(text) <= 240 else text[:239] + "…"


_PARSERS = {
    "pygate": "its own rules over httparse",
    "nginx": "its own",
    "haproxy": "its own (HTX)",
    "envoy": "its own over balsa",
    "caddy": "Go net/http",
    "uvicorn": "httptools (llhttp)",
    "waitress": "its own",
    "gunicorn": "its own, worker gthread (the sync worker closes after each answer)",
    "aiohttp": "its own in Python (its other one is llhttp)",
    "node": "llhttp",
}

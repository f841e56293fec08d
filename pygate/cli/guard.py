"""`pygate guard`: try out rule packs – their own examples, a file, what there is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pygate import _core
from pygate.cli.terminal import print_json, print_problems, style
from pygate.config.problem import ConfigError, Problem, Style
from pygate.guard import compile, examples, packs

_TYPES = {
    ".json": "application/json",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
    ".form": "application/x-www-form-urlencoded",
}


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "guard",
        help="try out guardrail rules",
        description="Tries out guardrail rules without a gateway.",
        epilog=(
            "examples:\n"
            "  pygate guard test rules/                    run every rule's examples through both engines\n"
            "  pygate guard scan prompt.txt                what the built-in packs find in a file\n"
            "  pygate guard scan body.json --packs pii --json | jq '.findings[].rule'\n"
            "  pygate guard list"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="guard_verb", metavar="VERB", required=True)
    test = verbs.add_parser("test", help="run every rule's examples through both engines")
    test.add_argument("path", nargs="*", help="pack files or directories (default: the built-in packs)")
    scan = verbs.add_parser("scan", help="print what rules find in a file")
    scan.add_argument("file", help="file to scan, `-` for standard input")
    scan.add_argument(
        "--packs", default="", help="names of packs or paths of pack files, comma-separated (default: all)"
    )
    scan.add_argument("--type", default="", help="content-type to read the file as (default: by its name, else text)")
    scan.add_argument("--engine", choices=("auto", "hyperscan", "rust"), default="auto", help="(default: %(default)s)")
    listing = verbs.add_parser("list", help="list packs and rules")
    listing.add_argument(
        "--packs", default="", help="names of packs or paths of pack files, comma-separated (default: all)"
    )
    for verb in (test, scan, listing):
        verb.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(args: argparse.Namespace) -> int:
    verb = {"test": _test, "scan": _scan, "list": _list}[args.guard_verb]
    try:
        return verb(args)
    except ConfigError as error:
        if args.json:
            print_json({"ok": False, "problems": [problem.as_dict() for problem in error.problems]})
        else:
            files = {problem.place.file for problem in error.problems if problem.place}
            print_problems(error.problems, {f: f.read_text("utf-8", "replace") for f in files}, sys.stderr)
        return 2


def _test(args: argparse.Namespace) -> int:
    chosen = packs.ensure([packs.read(path) for path in _files(args.path)])
    engines = [compile.ruleset(chosen, "rust")]
    try:
        engines.append(_core.Ruleset(packs.to_json(chosen), "hyperscan", [], compile.hyperscan(engines[0])))
        missing = ""
    except compile.Unavailable as why:
        missing = str(why)
    failures = [failure for pack in chosen for failure in examples.run(pack, engines)]
    rules = sum(len(pack.rules) for pack in chosen)
    tried = sum(1 for pack in chosen for _ in examples.examples(pack))
    names = [engine.engine for engine in engines]
    ok = not failures and not missing
    if args.json:
        print_json(
            {
                "ok": ok,
                "packs": [pack.name for pack in chosen],
                "rules": rules,
                "examples": tried,
                "engines": names,
                "missing": missing or None,
                "failures": [{"rule": f.rule, "place": str(f.place), "message": f.message} for f in failures],
            }
        )
        return 0 if ok else 1
    paint = style(sys.stdout)
    for failure in failures:
        print(f"{paint.red('failed')} {paint.bold(failure.rule)}: {failure.message}")
        print(f"  {paint.blue('-->')} {failure.place}")
    if missing:
        print(f"{paint.red('failed')}: the examples did not run through Hyperscan: {missing}")
    for note in engines[0].notes:
        print(f"{paint.dim('note')}: {note}")
    print(
        f"{paint.green('ok') if ok else paint.red('failed')}: packs={len(chosen)} rules={rules} examples={tried} "
        f"engines={','.join(names)} failures={len(failures)}"
    )
    return 0 if ok else 1


def _scan(args: argparse.Namespace) -> int:
    try:
        body = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    except OSError as error:
        raise ConfigError([Problem("", f"cannot read `{args.file}`: {error.strerror}")]) from None
    content_type = args.type or _TYPES.get(Path(args.file).suffix, "text/plain")
    rules = compile.ruleset(_chosen(args.packs), args.engine)
    try:
        verdict, findings, _ = rules.plan().judge(content_type, body)
    except ValueError as error:
        raise ConfigError([Problem("", f"`{args.file}` cannot be judged: {error}")]) from None
    hidden = bytearray(body)
    for *_, start, end in findings:
        hidden[start:end] = b"*" * (end - start)
    shown = [_describe(rules, finding, body, bytes(hidden)) for finding in findings]
    if args.json:
        print_json({"file": args.file, "engine": rules.engine, "verdict": verdict, "findings": shown})
        return 0
    paint = style(sys.stdout)
    for finding in shown:
        place = f"{args.file}:{finding['line']}:{finding['column']}"
        what = f"{finding['action']}, {finding['severity']}" + (f", {finding['owasp']}" if finding["owasp"] else "")
        print(f"{paint.bold(place)}: {_colour(paint, finding['action'], finding['rule'])} ({what})")
        print(f"    {finding['excerpt']}   {paint.dim('bytes {}-{}'.format(*finding['span']))}")
    print(f"verdict={verdict} findings={len(shown)} bytes={len(body)} engine={rules.engine}")
    return 0


def _list(args: argparse.Namespace) -> int:
    chosen = _chosen(args.packs)
    compile.ruleset(chosen, "rust")
    if args.json:
        print_json([{**pack.value["pack"], "file": str(pack.path), "rules": pack.rules} for pack in chosen])
        return 0
    paint = style(sys.stdout)
    for pack in chosen:
        head = pack.value["pack"]
        print(f"{paint.bold(pack.name)} {head['version']}: {head.get('description', '')} ({len(pack.rules)} rules)")
        for rule in pack.rules:
            action = rule.get("action", "tag")
            line = f"  {rule['id']:<34} {action:<6} {rule.get('severity', 'medium'):<9} {rule.get('owasp', ''):<6}"
            print(f"{_colour(paint, action, line)} {paint.dim(rule.get('description', ''))}")
    print(f"packs={len(chosen)} rules={sum(len(pack.rules) for pack in chosen)}")
    return 0


def _chosen(wanted: str) -> list[packs.PackFile]:
    """Packs by name or path, all built-in ones without any."""
    items = [item.strip() for item in wanted.split(",") if item.strip()] or packs.names()
    paths = [Path(item) if item.endswith(".toml") else packs.find(item) for item in items]
    return packs.ensure([packs.read(path) for path in paths])


def _files(paths: list[str]) -> list[Path]:
    files: list[Path] = []
    for path in [Path(p) for p in paths] or [packs.builtin()]:
        members = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        if not members:
            raise ConfigError([Problem("", f"no `*.toml` file in `{path}`")])
        files += members
    return files


def _describe(rules: _core.Ruleset, finding: Any, body: bytes, hidden: bytes) -> dict[str, Any]:
    name, action, shadow, channel, start, end, raw_start, raw_end = finding
    info = next(rule for rule in rules.rules() if rule["rule"] == name)
    line_start = body.rfind(b"\n", 0, raw_start) + 1
    return {
        "rule": name,
        "action": action,
        "severity": info["severity"],
        "owasp": info["owasp"],
        "shadow": shadow,
        "line": body.count(b"\n", 0, raw_start) + 1,
        "column": len(body[line_start:raw_start].decode("utf-8", "replace")) + 1,
        "span": [raw_start, raw_end],
        "channel": channel,
        "channel_span": [start, end],
        "excerpt": _excerpt(body, hidden, raw_start, raw_end),
    }


def _excerpt(body: bytes, hidden: bytes, start: int, end: int) -> str:
    """The finding in its line, with all but its first characters masked; `hidden` is the body without any finding."""
    before = hidden[max(body.rfind(b"\n", 0, start) + 1, start - 24) : start].decode("utf-8", "replace")
    found = body[start:end].decode("utf-8", "replace")
    stop = body.find(b"\n", end)
    after = hidden[end : min(len(body) if stop < 0 else stop, end + 24)].decode("utf-8", "replace")
    keep = 4 if len(found) >= 20 else 0
    text = before + found[:keep] + "•" * min(len(found) - keep, 12) + after
    return "".join(c if c.isprintable() else " " for c in text)


def _colour(paint: Style, action: str, text: str) -> str:
    return {"block": paint.red, "mask": paint.blue}.get(action, paint.dim)(text)

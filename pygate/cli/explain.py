"""`pygate explain METHOD URL`: which route a request takes, why no other does, and what happens on the way."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pygate import _core
from pygate.cli.terminal import print_json, print_problems, style
from pygate.config import load
from pygate.config.problem import Style

_DURABILITY = {
    "async": "in the background",
    "answer": "the answer's end waits for the outcome on disk",
    "call": "the upstream is called once the intent is on disk",
}


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explain",
        help="say which route a request takes, and why",
        description="Says which route a request would take, why the nearest others would not, and every policy on the"
        " way. Nothing is sent. Exit code 0: a route takes it, 1: none does, 2: wrong usage or configuration.",
        epilog="examples:\n"
        "  pygate explain GET https://api.example.com/orders/7\n"
        "  pygate explain -c pygate.toml POST http://localhost:8080/x -H 'x-env: dev' --client-ip 10.0.0.7\n"
        "  pygate explain GET /orders --json | jq .winner.route",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("method", help="GET, POST, …")
    parser.add_argument("url", help="https://host/path?query, or /path for a request without host")
    parser.add_argument("-c", "--config", default="pygate.toml", help="file or directory (default: %(default)s)")
    parser.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a field of the request; repeatable",
    )
    parser.add_argument("--client-ip", default="127.0.0.1", help="address of the client (default: %(default)s)")
    parser.add_argument("--entrypoint", help="where it comes in (default: the one with the URL's port, else the first)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(args: argparse.Namespace) -> int:
    loaded = load(args.config)
    if loaded.problems:
        if args.json:
            print_json({"problems": [p.as_dict() for p in loaded.problems]})
        else:
            print_problems(loaded.problems, loaded.texts, sys.stderr)
        return 2
    try:
        headers = [_field(text) for text in args.header]
        told = json.loads(_core.explain(loaded.json, args.method, args.url, headers, args.client_ip, args.entrypoint))
    except ValueError as e:
        print(style(sys.stderr).red("error") + f": {e}", file=sys.stderr)
        return 2
    if args.json:
        print_json(told | {"revision": loaded.revision})
    else:
        print("\n".join(_lines(told, loaded.revision, style(sys.stdout))))
    return 0 if told.get("winner") else 1


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} is not a field: expected 'NAME: VALUE'")
    return name.strip(), value.strip()


def _lines(told: dict[str, Any], revision: str, paint: Style) -> list[str]:
    out = []
    if "path" in told:
        asked = f"{told['method']} {told['host'] or '(no host)'} {told['path']}"
        out.append(
            paint.dim(f"{asked}  from {told['client_ip']} on {told['entrypoint'] or '(none)'}, revision {revision}")
        )
    if told["refused"]:
        refused = told["refused"]
        out.append(f"{paint.red(str(refused['status']))} {paint.bold(refused['code'])}: {refused['detail']}")
    winner = told.get("winner")
    if winner:
        out.append(f"{paint.green('route')} {paint.bold(winner['route'])}: {told['why']}")
        matched = " && ".join(winner["conditions"]) or "every request"
        out.append(f"  matched   {matched}")
        if winner["priority"]:
            out.append(f"  priority  {winner['priority']}")
        out += _way(told["way"], paint)
    if told.get("losers"):
        out += ["", paint.bold("nearest others")]
        width = max(len(loser["route"]) for loser in told["losers"])
        out += [f"  {loser['route']:<{width}}  {loser['why']}" for loser in told["losers"]]
    return out


def _way(way: dict[str, Any], paint: Style) -> list[str]:
    out = ["", paint.bold("on the way")]
    width = max((len(p["name"]) for p in way["policies"]), default=0)
    for number, policy in enumerate(way["policies"], 1):
        out.append(f"  {number}. {policy['name']:<{width}}  {policy['does']}")
    if not way["policies"]:
        out.append("  no policies")
    for name in way["plugins"]:
        out.append(f"  plugin    {name}")
    guard = way["guard"]
    packs = [f"{side} {', '.join(guard[side])}" for side in ("request", "response") if guard[side]]
    out.append(f"  guard     {'; '.join(packs)} (fails {guard['fail']})" if packs else "  guard     none")
    audit = way["audit"]
    out.append(f"  audit     {audit['durability']}: {_DURABILITY[audit['durability']]} (fails {audit['fail']})")
    service = way["service"]
    if service:
        out.append(f"  service   {service['name']} ({', '.join(service['endpoints'])})")
    else:
        out.append("  service   none: a policy must answer")
    return out

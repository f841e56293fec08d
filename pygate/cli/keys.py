"""`pygate keys create|list|show|set|rotate|revoke`: the keys clients call models with."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pygate.ai.secret import recognised
from pygate.cli import governed
from pygate.cli.governed import Ask, limit_lines, limit_text, when
from pygate.cli.terminal import print_json, style
from pygate.config.problem import Style

_EXAMPLES = """examples:
  pygate keys create ci --team platform --model fast --model 'gpt-*' --limit usd:month:50.00
  pygate keys create notebook --expires 90d --limit requests:minute:60 --limit total_tokens:day:2000000
  pygate keys list --team platform --json | jq -r '.keys[].id'
  pygate keys show ci
  pygate keys set ci --limit usd:month:80.00 --no-limit requests:minute
  pygate keys rotate ci --overlap 24h
  pygate keys revoke pk-k7m2xq

KEY is an id, a name, or what the key begins with. Changes reach every worker within a second."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "keys",
        help="make, limit, rotate and revoke the keys clients call models with",
        description="Virtual keys. Asks the running gateway; without one, works on its store. Exit code 0: done, 1: no"
        " answer, 2: wrong usage.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = governed.options()
    verbs = parser.add_subparsers(dest="keys_verb", metavar="VERB", required=True)

    create = verbs.add_parser("create", parents=[common], help="make a key and show it, once")
    create.add_argument("name", help="what uses it: an application, a person")
    _terms(create)
    governed.add_limits(create, changing=False)

    listing = verbs.add_parser("list", parents=[common], help="list keys")
    listing.add_argument("--team", help="only keys of this team")
    listing.add_argument("--project", help="only keys of this project")
    listing.add_argument("--all", action="store_true", help="also revoked and expired ones")

    show = verbs.add_parser("show", parents=[common], help="show a key, its limits and what is used of them")
    changing = verbs.add_parser("set", parents=[common], help="change what a key may do")
    rotate = verbs.add_parser("rotate", parents=[common], help="make a new secret; the old one is accepted for a while")
    revoke = verbs.add_parser("revoke", parents=[common], help="end a key for good")
    for verb in (show, changing, rotate, revoke):
        verb.add_argument("key", metavar="KEY", help="id, name or what the key begins with")
    changing.add_argument("--name", help="another name")
    changing.add_argument("--all-models", action="store_true", help="allow all models of the route")
    _terms(changing)
    governed.add_limits(changing, changing=True)
    rotate.add_argument("--overlap", help="how long the old secret is still accepted: 24h, 7d, 0s (default: 24h)")
    return parser


def _terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--team", help="the team it belongs to, whose limits hold, too")
    parser.add_argument("--project", help="the project it belongs to, whose limits hold, too")
    parser.add_argument("--model", action="append", metavar="PATTERN", help="allow this model; repeatable")
    parser.add_argument("--expires", metavar="TIME", help="90d, 2027-01-31, or never")
    parser.add_argument("--priority", type=int, metavar="0-9", help="higher is shed later (default: 0)")
    parser.add_argument("--max-output-tokens", metavar="N", help="most a call may ask for; none lifts it")
    parser.add_argument("--max-prompt-tokens", metavar="N", help="longest prompt of a call; none lifts it")


def run(args: argparse.Namespace) -> int:
    return governed.run(args, lambda ask: _VERBS[args.keys_verb](args, ask))


def _create(args: argparse.Namespace, ask: Ask) -> int:
    return _tell_secret(args, ask("POST", "keys", body={"name": args.name, "limits": args.limit} | _wish(args)))


def _list(args: argparse.Namespace, ask: Ask) -> int:
    query = {name: value for name in ("team", "project") if (value := getattr(args, name))}
    found = ask("GET", "keys", query=query | ({"all": "1"} if args.all else {}))
    if args.json:
        print_json(found)
        return 0
    rows = [
        [
            *(key["id"], key["name"], key["secrets"][0]["prefix"] if key["secrets"] else "-", key["state"]),
            *(key["team"] or "-", key["project"] or "-", ",".join(key["models"]) if key["models"] else "all"),
            *(when(key["expires"]), limit_text(key["limits"])),
        ]
        for key in found["keys"]
    ]
    heads = ("ID", "NAME", "KEY", "STATE", "TEAM", "PROJECT", "MODELS", "EXPIRES", "LIMITS")
    if rows:
        print("\n".join(governed.table(heads, rows, style(sys.stdout))))
    else:
        print("no keys; `pygate keys create NAME` makes one", file=sys.stderr)
    return 0


def _show(args: argparse.Namespace, ask: Ask) -> int:
    key = ask("GET", "keys", recognised(args.key))
    if args.json:
        print_json(key)
    else:
        paint = style(sys.stdout)
        print("\n".join([*_lines(key, paint), "", *limit_lines(key["holds"], paint)]))
    return 0


def _set(args: argparse.Namespace, ask: Ask) -> int:
    wish = _wish(args) | ({"name": args.name} if args.name else {}) | ({"models": None} if args.all_models else {})
    reference = recognised(args.key)
    if args.limit or args.no_limit:
        before = ask("GET", "keys", reference)
        reference = before["id"]
        wish["limits"] = governed.changed(before["limits"], args)
    key = ask("PATCH", "keys", reference, body=wish)
    if args.json:
        print_json(key)
    else:
        paint = style(sys.stdout)
        print("\n".join([*_lines(key, paint), f"  limits   {limit_text(key['limits'])}"]))
    return 0


def _rotate(args: argparse.Namespace, ask: Ask) -> int:
    body = {"overlap": args.overlap} if args.overlap else {}
    return _tell_secret(args, ask("POST", "keys", recognised(args.key), "rotate", body=body))


def _revoke(args: argparse.Namespace, ask: Ask) -> int:
    key = ask("DELETE", "keys", recognised(args.key))
    if args.json:
        print_json(key)
    else:
        print(f"{style(sys.stdout).green('ok')}: key {key['name']} ({key['id']}) is revoked{_force(key)}")
    return 0


def _tell_secret(args: argparse.Namespace, key: dict[str, Any]) -> int:
    if args.json:
        print_json(key)
        return 0
    paint = style(sys.stdout)
    print(f"{paint.bold(key['key'])}\n")
    print("\n".join([*_lines(key, paint), f"  limits   {limit_text(key['limits'])}"]))
    told = f" It is made{_force(key)}." if "in_force" in key else ""
    print(f"\nThe key is shown this once; only its SHA-256 is kept.{told}")
    return 0


def _force(key: dict[str, Any]) -> str:
    """Whether all workers know, where a gateway answered."""
    match key.get("in_force"):
        case True:
            return ", and in force in every worker"
        case False:
            return ", but some worker has not taken the change yet: see the gateway's log"
    return ""


def _lines(key: dict[str, Any], paint: Style) -> list[str]:
    state = {"active": paint.green, "expired": paint.yellow, "revoked": paint.red}[key["state"]](key["state"])
    out = [f"{paint.bold(key['name'])}  {paint.dim(key['id'])}  {state}"]
    for secret in key["secrets"]:
        until = f", accepted until {when(secret['retires'])} UTC" if secret["retires"] is not None else ""
        out.append(f"  key      {secret['prefix']}…  made {when(secret['created'])} UTC{until}")
    out.append(f"  team     {key['team'] or '-'}   project {key['project'] or '-'}   priority {key['priority']}")
    out.append(f"  models   {', '.join(key['models']) if key['models'] else 'all of the route'}")
    for what in ("output", "prompt"):
        if (most := key[f"max_{what}_tokens"]) is not None:
            out.append(f"  {what}   at most {most:,} tokens in a call")
    out.append(f"  expires  {when(key['expires'])}" + (" UTC" if key["expires"] is not None else ""))
    if key["revoked"] is not None:
        out.append(f"  revoked  {when(key['revoked'])} UTC")
    return out


def _wish(args: argparse.Namespace) -> dict[str, Any]:
    """What the options ask for; what is not given is not asked for."""
    wish = {name: value for name in ("team", "project") if (value := getattr(args, name)) is not None}
    if args.model:
        wish["models"] = args.model
    if args.priority is not None:
        wish["priority"] = args.priority
    for name in ("expires", "max_output_tokens", "max_prompt_tokens"):
        if (text := getattr(args, name)) is not None:
            wish[name] = None if text in ("never", "none") else int(text) if text.isdecimal() else text
    return wish


_VERBS = {"create": _create, "list": _list, "show": _show, "set": _set, "rotate": _rotate, "revoke": _revoke}

"""Teams and projects on the command line: the same verbs for both."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pygate.cli import governed
from pygate.cli.governed import Ask, limit_lines, limit_text, when
from pygate.cli.terminal import print_json, style


def make_parser(subparsers: Any, kind: str, example: str) -> argparse.ArgumentParser:
    """The parser of `pygate KINDs`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        f"{kind}s",
        help=f"limit what all keys of a {kind} may use together",
        description=f"Each {kind} has limits that hold for all its keys together, beside the keys' own. Asks the"
        " running gateway; without one, works on its store. Exit code 0: done, 1: no answer, 2: wrong usage.",
        epilog="examples:\n"
        f"  pygate {kind}s create {example} --limit usd:month:500.00 --limit requests:minute:1000\n"
        f"  pygate {kind}s list\n"
        f"  pygate {kind}s show {example}\n"
        f"  pygate {kind}s set {example} --limit usd:month:800.00 --no-limit requests:minute\n"
        f"  pygate {kind}s remove {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = governed.options()
    verbs = parser.add_subparsers(dest="group_verb", metavar="VERB", required=True)
    create = verbs.add_parser("create", parents=[common], help=f"make a {kind}")
    verbs.add_parser("list", parents=[common], help=f"list the {kind}s")
    show = verbs.add_parser("show", parents=[common], help=f"show a {kind}, its limits and what is used of them")
    changing = verbs.add_parser("set", parents=[common], help=f"change the limits of a {kind}")
    remove = verbs.add_parser("remove", parents=[common], help=f"remove a {kind} that has no keys")
    for verb in (create, show, changing, remove):
        verb.add_argument("name", metavar="NAME")
    governed.add_limits(create, changing=False)
    governed.add_limits(changing, changing=True)
    return parser


def run(args: argparse.Namespace, kind: str) -> int:
    return governed.run(args, lambda ask: _work(args, kind, ask))


def _work(args: argparse.Namespace, kind: str, ask: Ask) -> int:
    kinds, paint = f"{kind}s", style(sys.stdout)
    match args.group_verb:
        case "list":
            told = ask("GET", kinds)
            rows = [[g["name"], str(g["keys"]), when(g["created"]), limit_text(g["limits"])] for g in told[kinds]]
            lines = governed.table(("NAME", "KEYS", "MADE (UTC)", "LIMITS"), rows, paint, right="KEYS")
            if not rows:
                lines = [f"no {kinds}; `pygate {kinds} create NAME` makes one"]
        case "create":
            told = ask("POST", kinds, body={"name": args.name, "limits": args.limit})
            lines = [f"{paint.green('ok')}: {kind} {told['name']}, limits {limit_text(told['limits'])}"]
        case "set":
            before = ask("GET", kinds, args.name)
            told = ask("PATCH", kinds, args.name, body={"limits": governed.changed(before["limits"], args)})
            lines = [f"{paint.green('ok')}: {kind} {told['name']}, limits {limit_text(told['limits'])}"]
        case "remove":
            told = ask("DELETE", kinds, args.name)
            lines = [f"{paint.green('ok')}: {kind} {args.name} is removed"]
        case _:
            told = ask("GET", kinds, args.name)
            head = f"{paint.bold(told['name'])}  made {when(told['created'])} UTC, keys {told['keys']}"
            lines = [head, "", *limit_lines(told["holds"], paint)]
    if args.json:
        print_json(told)
    else:
        print("\n".join(lines))
    return 0

"""`pygate check FILE`: is this configuration right, and if not, what is wrong with it – all of it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pygate.cli.terminal import print_json, print_problems, style
from pygate.config import load


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        help="check a configuration and report all problems at once",
        description="Checks a configuration file or directory. Exit code 0: right, 2: wrong.",
        epilog="examples:\n  pygate check pygate.toml\n  pygate check /etc/pygate --json | jq '.problems[].path'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", nargs="?", default="pygate.toml", help="file or directory (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(args: argparse.Namespace) -> int:
    loaded = load(args.path)
    if args.json:
        print_json(
            {
                "ok": not loaded.problems,
                "revision": loaded.revision if not loaded.problems else None,
                "files": [str(f) for f in loaded.files],
                "problems": [p.as_dict() for p in loaded.problems],
            }
        )
    elif loaded.problems:
        print_problems(loaded.problems, loaded.texts, sys.stdout)
    else:
        paint = style(sys.stdout)
        counts = ", ".join(f"{len(loaded.value.get(k, ()))} {k}" for k in ("entrypoints", "routes", "services"))
        print(f"{paint.green('ok')}: revision {paint.bold(loaded.revision)}, {counts}, {len(loaded.files)} file(s)")
    return 2 if loaded.problems else 0

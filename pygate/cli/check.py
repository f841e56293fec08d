"""`pygate check FILE`: is this configuration right, and if not, what is wrong with it – all of it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pygate.cli.terminal import print_json, print_problems, print_warnings, style
from pygate.config import load
from pygate.config.problem import Problem
from pygate.control import certificates


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        help="check a configuration and report all problems at once",
        description="Checks a configuration file or directory. Exit code 0: right, 2: wrong.",
        epilog="examples:\n  pygate check pygate.toml\n  pygate check /etc/pygate --json | jq '.problems[].path'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", nargs="?", default="pygate.toml", help="file or directory (default: %(default)s)")
    parser.add_argument(
        "--no-files",
        action="store_true",
        help="leave out certificates and keys, where they are not at hand",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(args: argparse.Namespace) -> int:
    loaded = load(args.path)
    warnings: list[Problem] = [] if loaded.problems else loaded.warnings
    if not loaded.problems and not args.no_files:
        loaded.problems, found = certificates.examine(loaded)
        warnings = [*warnings, *found]
    if args.json:
        print_json(
            {
                "ok": not loaded.problems,
                "revision": loaded.revision if not loaded.problems else None,
                "files": [str(f) for f in loaded.files],
                "problems": [p.as_dict() for p in loaded.problems],
                "warnings": [w.as_dict() for w in warnings],
            }
        )
    elif loaded.problems:
        print_warnings(warnings, loaded.texts, sys.stdout)
        print_problems(loaded.problems, loaded.texts, sys.stdout)
    else:
        print_warnings(warnings, loaded.texts, sys.stdout)
        paint = style(sys.stdout)
        counts = ", ".join(f"{len(loaded.value.get(k, ()))} {k}" for k in ("entrypoints", "routes", "services"))
        print(f"{paint.green('ok')}: revision {paint.bold(loaded.revision)}, {counts}, {len(loaded.files)} file(s)")
    return 2 if loaded.problems else 0

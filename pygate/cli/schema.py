"""`pygate schema`: the JSON Schema of the configuration, for editors and generators."""

from __future__ import annotations

import argparse
from typing import Any

from pygate.cli.terminal import print_json
from pygate.config.schema import schema


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "schema",
        help="print the JSON Schema of the configuration",
        description="Prints the JSON Schema (draft 2020-12) that every configuration file is checked against.",
        epilog="examples:\n  pygate schema > pygate.schema.json\n  pygate schema --json | jq '.\"$defs\" | keys'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="accepted for uniformity; the output is always JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    print_json(schema())
    return 0

"""`pygate version`: what is installed."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata
from typing import Any

from pygate.cli.main import version
from pygate.cli.terminal import print_json


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "version",
        help="print the versions of pygate and what it runs on",
        epilog="example:\n  pygate version --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(args: argparse.Namespace) -> int:
    versions = {"pygate": version(), "python": platform.python_version()}
    for package in ("uvloop", "hyperscan", "opentelemetry-sdk"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    if args.json:
        print_json(versions)
    else:
        width = max(map(len, versions))
        for name, number in versions.items():
            print(f"{name:<{width}}  {number}")
    return 0

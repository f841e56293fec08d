"""`pygate teams create|list|show|set|remove`: limits that hold for all keys of a team."""

from __future__ import annotations

import argparse
from typing import Any

from pygate.cli import groups


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    return groups.make_parser(subparsers, "team", "platform")


def run(args: argparse.Namespace) -> int:
    return groups.run(args, "team")

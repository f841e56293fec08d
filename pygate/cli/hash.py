"""`pygate hash key|password`: what a configuration keeps instead of a secret."""

from __future__ import annotations

import argparse
import getpass
import secrets
import sys
from typing import Any

from pygate.cli.terminal import print_json, style
from pygate.config.credentials import hash_key, hash_password


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "hash",
        help="hash an API key or a password for the configuration",
        description="Prints the hash that api_key and basic_auth keep. The secret is read from standard input, or"
        " asked for on a terminal.",
        epilog="examples:\n  pygate hash password\n  pygate hash key < key.txt\n  pygate hash key --new",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("key", "password"))
    parser.add_argument(
        "--new", action="store_true", help="make a key or password of 256 random bits and print it, too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(args: argparse.Namespace) -> int:
    made = secrets.token_urlsafe(32) if args.new else None
    if made is not None:
        secret = made
    elif sys.stdin.isatty():
        secret = getpass.getpass(f"{args.what}: ")
    else:
        secret = sys.stdin.readline().rstrip("\r\n")
    if not secret:
        print(style(sys.stderr).red("error") + f": the {args.what} is empty", file=sys.stderr)
        return 2
    hashed = hash_key(secret) if args.what == "key" else hash_password(secret)
    if args.json:
        print_json({"hash": hashed} | ({"secret": made} if made else {}))
    else:
        if made:
            print(f"secret  {made}")
        print(f"hash    {hashed}" if made else hashed)
    return 0

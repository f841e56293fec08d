"""`pygate ready`: does a gateway on this machine serve? For health checks of containers and scripts."""

from __future__ import annotations

import argparse
import http.client
import sys
from typing import Any

from pygate.cli.terminal import print_json


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "ready",
        help="ask a running gateway whether it serves",
        description="Asks the admin listener for /-/ready. Exit code 0: a worker serves, 1: none does or no answer.",
        epilog="examples:\n  pygate ready\n  pygate ready --admin 127.0.0.1:9901 --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--admin", default="127.0.0.1:9901", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(args: argparse.Namespace) -> int:
    host, _, port = args.admin.rpartition(":")
    if not host or not port.isdigit():
        print(f"error: --admin: {args.admin!r} is not HOST:PORT, such as 127.0.0.1:9901", file=sys.stderr)
        return 2
    try:
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=args.timeout)
        connection.request("GET", "/-/ready")
        answer = connection.getresponse()
        ready, text = answer.status == 200, answer.read(500).decode(errors="replace").strip()
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        ready, text = False, f"no answer from {args.admin}: {error}"
    if args.json:
        print_json({"ready": ready, "message": text})
    else:
        print(text, file=sys.stdout if ready else sys.stderr)
    return 0 if ready else 1

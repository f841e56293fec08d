"""`pygate init`: a first configuration, with comments, to be edited."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pygate.cli.terminal import print_json, style

STARTER = """\
# A pygate configuration. `pygate check` says whether it is right, `pygate schema` what else there is.
# Durations are written "30s", sizes "1MiB", rates "100/s". Secrets are references: "env:NAME" or "file:PATH".

# Where to listen.
[entrypoints.web]
address = "127.0.0.1:8080"          # or "0.0.0.0:80", "[::]:80", "unix:/run/pygate/web.sock"

# What to send requests to.
[services.app]
endpoints = ["http://127.0.0.1:9000"]
# health = { path = "/healthz", interval = "5s" }

# Which request goes where. All conditions of a `match` must hold.
[[routes]]
name = "app"
match = { path = "/**" }            # or { host = "api.example.com", path = "/users/{id}", method = ["GET", "POST"] }
service = "app"
# policies = ["tag"]                # applied in this order
# guard = { request = ["pii", "secrets"], response = ["pii", "secrets"] }
# audit = { durability = "answer" } # the answer waits until its record is on disk

# What happens on the way; routes name the policies they want.
[policies.tag.headers]
response = { set = { x-served-by = "pygate" } }

# Health, metrics, revisions. On other than loopback addresses a token is needed.
[admin]
address = "127.0.0.1:9901"
# token = "env:PYGATE_ADMIN_TOKEN"

[workers]
# count = 2                         # default: one per core
drain_timeout = "30s"
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "init",
        help="write a first configuration",
        description="Writes a commented configuration to start from. An existing file is never overwritten.",
        epilog="examples:\n  pygate init\n  pygate init /etc/pygate/pygate.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", nargs="?", default="pygate.toml", help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(args: argparse.Namespace) -> int:
    path = Path(args.path)
    error = None
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError:
        error = f"{path} exists and is left as it is; give another name"
    except OSError as e:
        error = f"{path} cannot be written: {e.strerror}"
    if args.json:
        print_json({"ok": error is None, "path": str(path), "error": error})
    elif error:
        print(f"{style(sys.stderr).red('error')}: {error}", file=sys.stderr)
    else:
        print(f"{style(sys.stdout).green('ok')}: wrote {path}; next: pygate check {path} && pygate run -c {path}")
    return 1 if error else 0

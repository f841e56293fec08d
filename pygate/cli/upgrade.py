"""`pygate upgrade`: replaces the running program by the one now installed, without closing a listener."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from pygate.cli.terminal import print_json, style
from pygate.control.rundir import default_run_dir, read_pid

STEP = 0.1


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "upgrade",
        help="replace the running gateway by the installed version, without downtime",
        description="Asks the running gateway (SIGUSR2) to start its successor, which inherits the listeners, and waits"
        " until that has taken over. Exit code 1: it did not; the old one goes on.",
        epilog="examples:\n  pip install -U pygate && pygate upgrade\n  pygate upgrade --run-dir /run/pygate --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run-dir", help="of the running gateway (default: $RUNTIME_DIRECTORY or ./run)")
    parser.add_argument("--timeout", type=float, default=150.0, help="seconds to wait (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(args: argparse.Namespace) -> int:
    run_dir = Path(args.run_dir) if args.run_dir else default_run_dir()
    old = read_pid(run_dir)
    try:
        if old is None:
            raise ProcessLookupError
        (run_dir / "upgrade.failed").unlink(missing_ok=True)
        os.kill(old, signal.SIGUSR2)
    except ProcessLookupError:
        return _end(args, None, None, f"no gateway runs in {run_dir}; give its --run-dir")
    except PermissionError:
        return _end(args, old, None, f"process {old} belongs to another user")
    deadline = time.monotonic() + args.timeout
    while time.monotonic() < deadline:
        time.sleep(STEP)
        outcome = _outcome(run_dir, old)
        if outcome is not None:
            return _end(args, old, *outcome)
    return _end(args, old, None, f"no successor within {args.timeout:.0f} s; see the gateway's log")


def _outcome(run_dir: Path, old: int) -> tuple[int | None, str] | None:
    new = read_pid(run_dir)
    if new is not None and new != old:
        return new, ""
    try:
        verdict = (run_dir / "upgrade.failed").read_text()
    except OSError:
        return None
    return None, verdict.strip()


def _end(args: argparse.Namespace, old: int | None, new: int | None, error: str) -> int:
    if args.json:
        print_json({"ok": not error, "old": old, "new": new, "error": error or None})
    elif error:
        print(f"{style(sys.stderr).red('error')}: {error}", file=sys.stderr)
    else:
        print(f"{style(sys.stdout).green('ok')}: process {new} serves, process {old} finishes what it has begun")
    return 1 if error else 0

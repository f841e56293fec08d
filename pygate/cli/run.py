"""`pygate run`: the gateway, in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

from pygate.cli.terminal import print_problems, style
from pygate.config import load


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "run",
        help="start the gateway",
        description="Starts the gateway in the foreground. SIGHUP reloads, SIGUSR2 upgrades, SIGTERM and Ctrl-C drain"
        " and stop (twice: at once).",
        epilog="examples:\n  pygate run --demo\n  pygate run -c /etc/pygate --run-dir /run/pygate",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", help="file or directory (default: pygate.toml)")
    parser.add_argument("--demo", action="store_true", help="also start a demo upstream, and say what to try")
    parser.add_argument("--run-dir", help="where it keeps its run-time files (default: $RUNTIME_DIRECTORY or ./run)")
    parser.add_argument("--no-watch", action="store_true", help="do not reload when files change")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def run(args: argparse.Namespace) -> int:
    # The control process is the only user of these: other verbs must start fast.
    import uvloop

    from pygate.control import certificates, waiter
    from pygate.control.listeners import ListenError
    from pygate.control.process import Control, Options, StartError
    from pygate.control.rundir import RunDirError, default_run_dir
    from pygate.demo import tour

    logging.basicConfig(
        level=args.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    # It reports every event it sees, ours or not.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    config = Path(args.config) if args.config else tour.quickstart() if args.demo else Path("pygate.toml")
    loaded = load(config)
    if not loaded.problems:
        loaded.problems = certificates.check(loaded)
    if loaded.problems:
        print_problems(loaded.problems, loaded.texts, sys.stderr)
        return 2
    run_dir = Path(args.run_dir) if args.run_dir else default_run_dir()
    options = Options(config, run_dir, _again(args, config, run_dir), watch=not args.no_watch)
    if args.demo:
        options.companion = tour.COMPANION
        options.on_serving = lambda control: print(tour.welcome(control, style(sys.stdout)), flush=True)

    successor: list[int] = []

    async def serve() -> int:
        control = Control(options, loaded)
        code = await control.run()
        successor.extend([control.successor] if control.successor else [])
        return code

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(serve())
        if successor:
            waiter.become(successor[0], run_dir)
        return code
    except (RunDirError, ListenError, StartError, OSError) as e:
        print(f"{style(sys.stderr).red('error')}: {e}", file=sys.stderr)
        return 1


def _again(args: argparse.Namespace, config: Path, run_dir: Path) -> list[str]:
    """The arguments that start a successor just like this."""
    again = ["run", "-c", os.path.abspath(config), "--run-dir", os.path.abspath(run_dir)]
    return [*again, "--log-level", args.log_level, *(["--no-watch"] if args.no_watch else [])]

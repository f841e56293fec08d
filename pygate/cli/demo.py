"""`pygate demo`: the AI gateway at work, without any key or network."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any

from pygate.cli.terminal import style


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo",
        help="show the AI gateway with simulated providers",
        description="Shows a call, a failover, a stream, a budget that runs out and the usage, with a gateway before"
        " three simulated providers. Needs no key, leaves nothing behind, ends by itself. `pygate run --demo` stays.",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from pygate.cli.main import main
    from pygate.demo.show import Failed, Show

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        Show(main, style(sys.stdout)).run()
    except (Failed, OSError) as e:
        print(f"{style(sys.stderr).red('error')}: {e}", file=sys.stderr)
        return 1
    return 0

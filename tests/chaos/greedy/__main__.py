"""Command line of the greedy clients. Exit codes: 0 all claims hold, 1 one does not."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from tests.chaos.greedy.attacks import ATTACKS, BASE_MB, BY_NAME
from tests.chaos.greedy.run import Result, run, show


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.greedy",
        description="Attacks a real gateway with slow and greedy clients, two waves of each attack, while a"
        f" well-behaved client is served. Claims: the gateway's memory stays within {BASE_MB:.0f} MB plus a bound per"
        " connection and does not grow from wave to wave; no request of the others fails and their p99 stays within a"
        " factor; whoever breaks a deadline or a limit is cut off in time. Exit code 1: a claim does not hold.",
        epilog="examples:\n  python -m tests.chaos.greedy --quick\n"
        "  python -m tests.chaos.greedy --attacks idle,idle-tls --json greedy.json\n\n"
        f"attacks: {', '.join(BY_NAME)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the connections, short calm (under 7 minutes)")
    parser.add_argument("--attacks", default="", help="comma-separated names or beginnings of names (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--keep", action="store_true", help="keep the directory with configuration and logs")
    args = parser.parse_args()
    wanted = [name for name in args.attacks.split(",") if name]
    if unknown := [name for name in wanted if not any(a.name.startswith(name) for a in ATTACKS)]:
        parser.error(f"--attacks: {', '.join(unknown)} unknown; choose from {', '.join(BY_NAME)}")
    beginnings = tuple(name for name in wanted if name not in BY_NAME)
    chosen = [a for a in ATTACKS if not wanted or a.name in wanted or a.name.startswith(beginnings)]

    console = Console(width=None if sys.stdout.isatty() else 190)
    progress = Console(stderr=True)
    directory = Path(tempfile.mkdtemp(prefix="pygate-greedy-"))
    started = time.monotonic()
    result = Result()
    try:
        share, calm = (0.1, 1.0) if args.quick else (1.0, 3.0)
        run(chosen, share, directory, result, lambda text: progress.print(text, style="dim"), calm_seconds=calm)
    finally:
        if args.keep:
            console.print(f"kept: {directory}", highlight=False)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    show(result, console)
    if args.json:
        document = {"ok": result.ok, "attacks": [asdict(found) for found in result.measured]}
        args.json.write_text(json.dumps(document, indent=2) + "\n")
    print(f"greedy={'ok' if result.ok else 'failed'} {result.summary()} seconds={time.monotonic() - started:.0f}")
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())

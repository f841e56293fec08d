"""Runs a locust scenario headless, writes its HTML report and prints one summary line.

Exit codes: 0 fine, 1 requests failed or p99 was above --p99, 2 it could not run.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.locust",
        description="Load from locust against a gateway that already runs, such as `pygate run --demo`.",
        epilog="examples:\n  python -m bench.locust journey --users 20 --seconds 20\n"
        "  python -m bench.locust spike --base 50 --peak 300 --html spike.html",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", choices=("journey", "spike"), help="closed loop, or open loop with a spike")
    parser.add_argument("--host", default="http://127.0.0.1:8080", help="the gateway (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=15, help="how long (default: %(default)s)")
    parser.add_argument("--users", type=int, default=20, help="journey: users (default: %(default)s)")
    parser.add_argument("--base", type=float, default=50, help="spike: arrivals per second (default: %(default)s)")
    parser.add_argument("--peak", type=float, default=300, help="spike: in the middle third (default: %(default)s)")
    parser.add_argument("--p99", type=float, default=500, metavar="MS", help="most p99 (default: %(default)s ms)")
    parser.add_argument("--html", type=Path, help="where the report goes (default: locust-SCENARIO.html)")
    args = parser.parse_args()

    try:
        urllib.request.urlopen(args.host, timeout=5).close()
    except urllib.error.HTTPError:
        pass  # It answers; what, does not matter here.
    except OSError as error:
        print(f"error: nothing answers at {args.host} ({error}); start one: pygate run --demo", file=sys.stderr)
        return 2

    html = args.html or Path(f"locust-{args.scenario}.html")
    with tempfile.TemporaryDirectory() as directory:
        stem = Path(directory) / "run"
        command = [sys.executable, "-m", "locust", "-f", str(HERE / f"{args.scenario}.py"), "--headless"]
        command += ["--host", args.host, "--html", str(html), "--csv", str(stem), "--exit-code-on-error", "0"]
        command += ["--only-summary", "--loglevel", "WARNING"]
        if args.scenario == "journey":
            command += ["--users", str(args.users), "--spawn-rate", str(args.users), "--run-time", f"{args.seconds}s"]
        else:
            command += ["--users", "1", "--run-time", f"{args.seconds + 30}s"]
        settings = {"SPIKE_BASE": args.base, "SPIKE_PEAK": args.peak, "SPIKE_SECONDS": args.seconds}
        env = {**os.environ, **{key: str(value) for key, value in settings.items()}}
        done = subprocess.run(command, env=env, stdout=sys.stderr)
        results = Path(f"{stem}_stats.csv")
        if done.returncode != 0 or not results.exists():
            print(f"error: locust ended with code {done.returncode}", file=sys.stderr)
            return 2
        with results.open(newline="") as file:
            total = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")

    requests, failures = int(total["Request Count"]), int(total["Failure Count"])
    p50, p99 = float(total["50%"]), float(total["99%"])
    ok = requests > 0 and failures == 0 and p99 <= args.p99
    print(
        f"locust={'ok' if ok else 'failed'} scenario={args.scenario} requests={requests} failed={failures}"
        f" p50_ms={p50:.0f} p99_ms={p99:.0f} html={html}"
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())

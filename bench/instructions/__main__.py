"""Counts instructions per call and compares them with `baseline.json`.

Times on a shared machine vary by a third; instruction counts of one build are the same every time. They do depend on
the compiler, so the baseline names the one it was made with. Exit codes: 0 fine, 1 a regression, 2 it could not run.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
BASELINE = Path(__file__).parent / "baseline.json"
#: The profile of `Cargo.toml` that releases are built with.
PROFILE = "bench"
TOLERANCE = 0.05
#: Worse by this little is no regression, whatever the share.
SLACK = 10


class RunError(Exception):
    """Building or counting failed."""


def build() -> Path:
    """Builds the workloads; returns the binary."""
    command = ["cargo", "build", "--quiet", "--profile", PROFILE, "--package", "pygate-core"]
    command += ["--example", "instructions", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RunError("cargo build failed")
    for line in reversed(done.stdout.splitlines()):
        executable = json.loads(line).get("executable")
        if executable:
            return Path(executable)
    raise RunError("cargo named no executable")


def workloads(binary: Path) -> dict[str, int]:
    """Calls per run by workload."""
    listed = subprocess.run([binary], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {name: int(calls) for name, calls in (line.split() for line in listed.splitlines())}


def count(binary: Path, workload: str, calls: int, keep: Path | None) -> int:
    """Instructions of one call. With `keep`, callgrind's profile is left there."""
    with tempfile.TemporaryDirectory() as directory:
        output = (keep or Path(directory)) / f"callgrind.out.{workload}"
        command = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=instructions::measured*"]
        done = subprocess.run(
            [*command, f"--callgrind-out-file={output}", binary, workload],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        found = re.search(r"^(?:totals|summary): (\d+)", output.read_text(), re.M) if output.exists() else None
        if done.returncode != 0 or found is None or int(found[1]) == 0:
            raise RunError(f"{workload} under valgrind ended with code {done.returncode}:\n{done.stdout[-2000:]}")
        return round(int(found[1]) / calls)


def compiler() -> str:
    return subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.instructions",
        description=f"Instructions per call of fixed workloads; more than {TOLERANCE:.0%} above the baseline fails.",
        epilog="examples:\n  python -m bench.instructions\n  python -m bench.instructions --update\n"
        "  python -m bench.instructions --only guard --keep . && callgrind_annotate callgrind.out.guard-clean-4k",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--update", action="store_true", help="write the counts as the new baseline")
    parser.add_argument("--only", default="", metavar="TEXT", help="workloads whose name contains TEXT")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave callgrind's profiles there")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    if not shutil.which("valgrind"):
        print("error: valgrind not found; install it with: apt-get install valgrind", file=sys.stderr)
        return 2
    try:
        binary = build()
        wanted = {name: calls for name, calls in workloads(binary).items() if args.only in name}
        with ThreadPoolExecutor(2) as pool:
            futures = {name: pool.submit(count, binary, name, calls, args.keep) for name, calls in wanted.items()}
            counts = {name: future.result() for name, future in futures.items()}
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    empty = {"compiler": compiler(), "counts": {}}
    baseline: dict[str, Any] = json.loads(BASELINE.read_text()) if BASELINE.exists() else empty
    before: dict[str, int] = baseline["counts"]
    regressions = [n for n, c in counts.items() if n in before and c > before[n] * (1 + TOLERANCE) + SLACK]
    new = [name for name in counts if name not in before]
    if args.json:
        print(json.dumps({"counts": counts, "baseline": before, "regressions": regressions}, indent=2))
    else:
        for name, found in counts.items():
            old = before.get(name)
            change = f"{found / old - 1:+7.1%}" if old else "    new"
            print(f"{name:<24} {found:>12,} {change}{'  REGRESSION' if name in regressions else ''}")
    if args.update:
        merged = {**before, **counts} if args.only else counts
        document = {"compiler": compiler(), "counts": dict(sorted(merged.items()))}
        BASELINE.write_text(json.dumps(document, indent=2) + "\n")
        regressions, new = [], []
    elif baseline["compiler"] != compiler():
        print(f"note: the baseline was made with {baseline['compiler']}, this is {compiler()}", file=sys.stderr)
    if new:
        print(f"error: not in the baseline: {', '.join(new)}; add with --update", file=sys.stderr)
    result = "failed" if regressions or new else "ok"
    print(f"instructions={result} workloads={len(counts)} regressions={len(regressions)} new={len(new)}")
    return 0 if result == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())

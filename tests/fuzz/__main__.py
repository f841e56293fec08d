"""Fuzzes everything there is a target for, for a given time: `make fuzz SECONDS=60`.

`python -m tests.fuzz [--seconds N] [--only TARGET] [--sanitizer none|address] [--json FILE]`

N is the time for all targets together; as many run beside one another as there are cores. Targets of `rust/fuzz` are
built by cargo-fuzz with a stable toolchain; the sanitizer `address` needs `-Z` flags and is allowed them by
RUSTC_BOOTSTRAP. What is found beyond the corpora in the tree is kept under `target/fuzz-corpus` and taken up next time.
Ends with 1 when an input breaks a promise; it is kept, and how to run it is told.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FUZZ = REPOSITORY / "rust" / "fuzz"
STATE = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
TRIPLE = "{}-unknown-linux-gnu"
PYTHON_TARGETS = {"config_reader": "tests.fuzz.config_reader"}
#: Seeds of Python targets that are not under their own name.
SEEDS = {"config_reader": "config_toml"}
#: Words that mutations may put in, by target: files in `rust/fuzz/dictionaries`.
WORDS = {
    "chunked": "http",
    "config_reader": "config",
    "config_toml": "config",
    "exchange_h1": "http",
    "json_reader": "json",
    "request_head": "http",
    "response_head": "http",
    "route_expression": "expression",
}
#: Longest input; the parsers' caps are low in the targets, so that more would only be slow.
LONGEST = 4096
#: One input may take this long at most, in seconds. By the clock: a busy machine must not look like an endless loop.
TIMEOUT = 60


@dataclass
class Run:
    """What came of one target."""

    target: str
    runs: int = 0
    seconds: float = 0.0
    coverage: int = 0
    #: New inputs beside the seeds.
    found: int = 0
    failure: str = ""
    reproducer: Path | None = None


def targets() -> list[str]:
    """Names of all targets, Rust first."""
    return [*sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs")), *PYTHON_TARGETS]


def build(sanitizer: str) -> Path:
    """Builds the Rust targets; the directory of their binaries. Raises CalledProcessError."""
    cargo_fuzz = shutil.which("cargo-fuzz", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if cargo_fuzz is None:
        raise FileNotFoundError("cargo-fuzz is missing: `make fuzz` installs it")
    directory = STATE / "fuzz"
    command = [cargo_fuzz, "fuzz", "build", "--fuzz-dir", str(FUZZ), "--target-dir", str(directory), "-s", sanitizer]
    environment = dict(os.environ)
    if sanitizer != "none":
        environment["RUSTC_BOOTSTRAP"] = "1"
    subprocess.run(command, check=True, env=environment, cwd=REPOSITORY)
    return directory / TRIPLE.format(os.uname().machine) / "release"


def run(target: str, binaries: Path | None, seconds: int) -> Run:
    """Fuzzes one target."""
    work = STATE / "fuzz-corpus" / target
    artifacts = STATE / "fuzz-artifacts" / target
    for directory in (work, artifacts):
        directory.mkdir(parents=True, exist_ok=True)
    before = {path.name for path in artifacts.iterdir()}
    options = [
        str(work),
        str(FUZZ / "corpus" / SEEDS.get(target, target)),
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-timeout={TIMEOUT}",
        "-print_final_stats=1",
        f"-artifact_prefix={artifacts}/",
    ]
    if target in WORDS:
        options.append(f"-dict={FUZZ / 'dictionaries' / WORDS[target]}.dict")
    started = time.monotonic()
    # Generous: libFuzzer reads all seeds before it looks at the time.
    told = subprocess.run(
        [*_command(target, binaries), *options],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=REPOSITORY,
        timeout=seconds + 300,
    )
    return _read(target, told, time.monotonic() - started, artifacts, before)


def _command(target: str, binaries: Path | None) -> list[str]:
    if target in PYTHON_TARGETS:
        return [sys.executable, "-m", PYTHON_TARGETS[target]]
    return [str((binaries or Path()) / target)]


def _read(
    target: str, told: subprocess.CompletedProcess[str], seconds: float, artifacts: Path, before: set[str]
) -> Run:
    text = told.stderr + told.stdout
    found = Run(target, seconds=seconds)
    if numbers := re.findall(r"stat::number_of_executed_units:\s+(\d+)", text):
        found.runs = int(numbers[-1])
    elif numbers := re.findall(r"^#(\d+)\s", text, re.MULTILINE):
        found.runs = int(numbers[-1])
    if numbers := re.findall(r"stat::new_units_added:\s+(\d+)", text):
        found.found = int(numbers[-1])
    if numbers := re.findall(r"\bcov: (\d+)", text):
        found.coverage = int(numbers[-1])
    fresh = sorted(path for path in artifacts.iterdir() if path.name not in before and not path.name.startswith("slow"))
    if told.returncode != 0 or fresh:
        lines = [line for line in text.splitlines() if line.strip()]
        marks = [
            n for n, line in enumerate(lines) if re.search(r"panicked at|Traceback|Uncaught|ERROR:|SUMMARY:", line)
        ]
        start = marks[0] if marks else max(0, len(lines) - 12)
        found.failure = "\n".join(lines[start : start + 12])
        found.reproducer = fresh[0] if fresh else None
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--only", default="", metavar="TARGET", help="one target, with all the time")
    parser.add_argument("--sanitizer", default="none", choices=("none", "address"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    chosen = [name for name in targets() if options.only in ("", name)]
    if not chosen:
        parser.error(f"there is no target {options.only}; there are {', '.join(targets())}")
    try:
        binaries = build(options.sanitizer) if any(name not in PYTHON_TARGETS for name in chosen) else None
    except (subprocess.CalledProcessError, FileNotFoundError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    beside = min(os.cpu_count() or 1, len(chosen))
    each = max(1, options.seconds * beside // len(chosen))
    started = time.monotonic()
    with ThreadPoolExecutor(beside) as pool:
        results = list(pool.map(lambda name: run(name, binaries, each), chosen))
    took = time.monotonic() - started
    print(f"{'target':<18}{'seconds':>8}{'runs':>10}{'runs/s':>9}{'coverage':>10}{'new':>6}  result")
    for result in results:
        rate = result.runs / max(result.seconds, 0.001)
        verdict = "ok" if not result.failure else "CRASH"
        print(
            f"{result.target:<18}{result.seconds:>8.1f}{result.runs:>10}{rate:>9.0f}{result.coverage:>10}"
            f"{result.found:>6}  {verdict}"
        )
    crashes = [result for result in results if result.failure]
    for result in crashes:
        print(f"\n{result.target}: {result.failure}")
        if result.reproducer:
            command = " ".join(_command(result.target, binaries))
            print(f"reproducer: {result.reproducer}\nrun it: {command} {result.reproducer}")
    runs = sum(result.runs for result in results)
    if options.json:
        fields = [vars(result) | {"reproducer": str(result.reproducer or "")} for result in results]
        options.json.write_text(json.dumps({"targets": fields, "runs": runs, "crashes": len(crashes)}, indent=1) + "\n")
    print(
        f"fuzz={'ok' if not crashes else 'failed'} targets={len(results)} runs={runs} seconds={took:.0f} "
        f"crashes={len(crashes)}"
    )
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())

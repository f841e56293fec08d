"""Load of `bench/tools`: whole calls and streams, one thread on the upstream's core.

Every answer is read and compared: what comes back wrong is an error of the row, never a call.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.ai import prompts
from bench.ai.upstream import DELTAS, PACE_MS
from bench.proxy import load
from bench.proxy.generators import tool
from bench.proxy.load import Sample
from bench.proxy.origin import ORIGIN_CORE, Origin
from bench.proxy.processes import Pinned

STREAM_SECONDS = DELTAS * PACE_MS / 1000


@dataclass
class Run:
    """One run: its sample and all that the generator told, times in µs."""

    sample: Sample
    told: dict[str, float]


def chats(port: int, connections: int, files: list[Path], seconds: float) -> list[str]:
    """The command of whole calls."""
    return tool("chats", port, connections, seconds, prompts.ANSWER, *files)


def streams(port: int, connections: int, file: Path, seconds: float) -> list[str]:
    """The command of streams, which begins them over one stream's length and reads them to their end."""
    return tool("streams", port, connections, seconds, DELTAS, PACE_MS, file)


def measure(command: list[str], gateway: Pinned, origin: Origin) -> Run:
    """Runs it to its end and charges the gateway's tree for what it used meanwhile."""
    told: dict[str, float] = {}

    def read(output: str) -> dict[str, float]:
        told.update(load.read(output))
        return told

    return Run(load.charge(functools.partial(load.run, command), read, gateway, origin), told)


def start(command: list[str]) -> Callable[[], dict[str, float]]:
    """Starts it; returns what waits for its end and tells its numbers. Raises RuntimeError there when it failed."""
    pinned = ["taskset", "--cpu-list", str(ORIGIN_CORE), *command]
    process = subprocess.Popen(
        pinned, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def finish() -> dict[str, float]:
        output, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"bench/tools ended with code {process.returncode}: {output[-500:]}")
        numbers: dict[str, float] = json.loads(output[output.rindex("{") :])
        return numbers

    return finish

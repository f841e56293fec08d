"""`python -m tests.chaos.greedy.attacker NAME PORT CONNECTIONS SECONDS GRACE DIRECTORY`: one wave of an attack.

Prints one line of JSON: how many connections ended how, and the seconds until the last one did, by end. It is nice: an
attacker's own work may not take the processor from those it is measured by.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import uvloop

from tests.chaos.greedy.attacks import BY_NAME
from tests.chaos.greedy.link import Target


def main(name: str, port: str, connections: str, seconds: str, grace: str, directory: str) -> None:
    os.nice(10)
    attack = BY_NAME[name]
    target = Target(int(port), attack.entrypoint == "secure", float(seconds), Path(directory), float(grace))

    async def run() -> None:
        if (running := attack.run(target, int(connections))) is not None:
            await running

    uvloop.run(run())
    ends: dict[str, int] = {}
    last: dict[str, float] = {}
    for end, took in target.ends:
        ends[end] = ends.get(end, 0) + 1
        last[end] = max(last.get(end, 0.0), took)
    print(json.dumps({"ends": ends, "last": last}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:7])

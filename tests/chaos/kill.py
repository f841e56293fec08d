"""Kills a gateway under load at random instants and holds its audit log against what clients were answered.

Per round one of: a worker, all workers, the control process, everything – each by SIGKILL. Claims:

1. Whoever was answered completely on a route with durability `answer` or `call` finds intent and outcome in the log.
2. Whatever the upstream was asked on a route with durability `call` has its intent there.
3. The log verifies, also right after everything was killed.
4. While workers or the control process are killed, no connection is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.chaos.records import Findings, compare
from tests.chaos.scene import Scene, scene
from tests.control.running import wait_for

KINDS = {"worker": 0.62, "workers": 0.1, "control": 0.14, "everything": 0.14}

ROUTE = """
[[routes]]
name = "{durability}"
match = {{ path = "/{durability}" }}
service = "up"
audit = {{ durability = "{durability}" }}
"""


@dataclass
class Round:
    """What one round did. Times in milliseconds."""

    kind: str
    answered: int = 0
    unanswered: int = 0
    #: Longest time without any answer around the kill.
    silence_ms: float = 0


@dataclass
class Result:
    """A whole run."""

    rounds: list[Round] = field(default_factory=list)
    answered: int = 0
    audited: int = 0
    records: int = 0
    lost: list[str] = field(default_factory=list)
    unannounced: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    refused: int = 0
    unanswered: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.lost or self.unannounced or self.damaged or self.refused or self.wrong) and self.answered > 0

    def summary(self) -> str:
        return (
            f"rounds={len(self.rounds)} answered={self.answered} audited={self.audited} lost={len(self.lost)}"
            f" refused={self.refused} unannounced={len(self.unannounced)} damaged={len(self.damaged)}"
            f" wrong={len(self.wrong)} unanswered={self.unanswered} records={self.records}"
        )


class Killer:
    """Runs the rounds in a scene."""

    def __init__(self, made: Scene, rng: random.Random) -> None:
        self._scene = made
        self._gateway = made.gateway
        self._rng = rng
        #: When nobody could listen: from the kill of everything to the next readiness, in nanoseconds.
        self._down: list[tuple[int, int]] = []
        self.result = Result()

    def round(self, kind: str) -> None:
        """One kill, and the way back to service."""
        time.sleep(self._rng.uniform(0.1, 0.9))
        began = time.monotonic_ns()
        KILL[kind](self)
        self.result.rounds.append(Round(kind))
        self._measure(self.result.rounds[-1], began)

    def finish(self) -> Result:
        """Ends the load and draws the balance."""
        told = self._scene.end_load()
        self._gateway.kill_everything()
        self._compare()
        result = self.result
        result.answered, result.unanswered = len(told.answered), len(told.unanswered)
        result.refused = sum(not any(a <= at <= b for a, b in self._down) for at in told.refused)
        result.wrong = [what for _, what in told.wrong]
        return result

    def _kill_workers(self, count: int) -> None:
        workers = list(wait_for(self._gateway.workers, "a worker").values())
        for pid in self._rng.sample(workers, min(count, len(workers))):
            os.kill(pid, signal.SIGKILL)

    def _kill_control(self) -> None:
        self._gateway.processes[-1].kill()
        self._gateway.processes[-1].wait(10)
        time.sleep(self._rng.uniform(0, 0.5))
        self._gateway.start()

    def _kill_everything(self) -> None:
        began = time.monotonic_ns()
        self._gateway.kill_everything()
        # Answers that were in the clients' sockets are theirs; give them time to be written down.
        time.sleep(0.1)
        self._compare()
        self._gateway.start()
        self._down.append((began, time.monotonic_ns()))

    def _compare(self) -> None:
        found: Findings = compare(self._gateway.audit, self._scene.told().answered, self._scene.called)
        result = self.result
        result.audited, result.records = found.audited, found.records
        for into, more in (
            (result.lost, found.lost),
            (result.unannounced, found.unannounced),
            (result.damaged, found.damaged),
        ):
            into += [item for item in more if item not in into]

    def _measure(self, done: Round, began: int) -> None:
        """Waits for the first answers after the kill and reads off what it did to the clients."""
        wait_for(lambda: self._scene.told().answered[-1].at > began + 100_000_000, "answers after a kill", 30)
        told = self._scene.told()
        times = sorted(a.at for a in told.answered if a.at >= began - 1_000_000_000)
        done.answered = sum(at >= began for at in times)
        done.unanswered = sum(at >= began for at, _ in told.unanswered)
        gaps = [b - a for a, b in zip(times, times[1:], strict=False) if b >= began]
        done.silence_ms = round(max(gaps, default=0) / 1e6, 1)


KILL: dict[str, Callable[[Killer], None]] = {
    "worker": lambda killer: killer._kill_workers(1),
    "workers": lambda killer: killer._kill_workers(9),
    "control": Killer._kill_control,
    "everything": Killer._kill_everything,
}


def plan(rounds: int, rng: random.Random) -> list[str]:
    """Kinds in random order; every kind comes when there are rounds enough."""
    drawn = rng.choices(list(KINDS), list(KINDS.values()), k=max(0, rounds - len(KINDS)))
    kinds = (list(KINDS) + drawn)[:rounds]
    rng.shuffle(kinds)
    return kinds


def run(
    rounds: int, seed: int, durability: list[str], directory: Path, console: Console, connections: int = 6
) -> Result:
    """A whole run in `directory`."""
    rng = random.Random(seed)
    kinds = plan(rounds, rng)
    routes = "".join(ROUTE.format(durability=name) for name in durability)
    with scene(directory, routes) as made:
        made.gateway.start()
        made.begin_load("+".join(durability), 2, connections, seed)
        wait_for(lambda: made.told().answered, "a first answer")
        killer = Killer(made, rng)
        for kind in track(kinds, "killing", console=console, transient=True, disable=not console.is_terminal):
            killer.round(kind)
        return killer.finish()


def show(result: Result, console: Console) -> None:
    """The rounds by kind, and what does not hold."""
    table = Table("killed", "rounds", "answered after", "unanswered", "longest silence", title="kills under load")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in KINDS:
        of = [r for r in result.rounds if r.kind == kind]
        if of:
            silence = max(r.silence_ms for r in of)
            table.add_row(
                kind,
                str(len(of)),
                str(sum(r.answered for r in of)),
                str(sum(r.unanswered for r in of)),
                f"{silence:.0f} ms",
            )
    console.print(table)
    for name in ("lost", "unannounced", "damaged", "wrong"):
        for item in getattr(result, name)[:10]:
            console.print(f"[red]{name}[/red] {item}", highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.kill",
        description="Kills workers, the control process and the whole gateway under load at random instants and checks"
        " that no answered call is missing in the audit log and no connection was refused. Exit code 1: a claim does"
        " not hold.",
        epilog="examples:\n  python -m tests.chaos.kill --rounds 50\n"
        "  python -m tests.chaos.kill --rounds 10 --durability call --seed 7 --json kill.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=50, help="kills (default: %(default)s)")
    parser.add_argument("--durability", default="answer,call", help="routes under load (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier run (instants stay random)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--keep", action="store_true", help="keep the directory with logs and records")
    args = parser.parse_args()
    durability = args.durability.split(",")
    if not set(durability) <= {"answer", "call"} or args.rounds < 1:
        parser.error("--durability: expected answer, call or both; --rounds: at least 1")
    seed = args.seed if args.seed is not None else random.randrange(1_000_000)
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="pygate-kill-"))
    try:
        result = run(args.rounds, seed, durability, directory, console)
    finally:
        if args.keep:
            console.print(f"kept: {directory}", highlight=False)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    show(result, console)
    if args.json:
        args.json.write_text(json.dumps({"seed": seed, "ok": result.ok, **asdict(result)}, indent=2) + "\n")
    print(f"{result.summary()} seed={seed}")
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())

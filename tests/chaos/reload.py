"""Changes the configuration of a gateway under load, again and again, and looks whether any client noticed.

Every good revision marks requests and answers with its number; the upstream sends the request's mark back. Reloads
come by file change and by SIGHUP in turn; every fourth file is bad. Claims:

1. No request fails, no connection is refused or reset, whatever is changed.
2. Request mark, answer mark and `x-pygate-revision` of an answer belong to one revision.
3. A bad file changes nothing and is counted.
4. Limits go on counting and an open circuit breaker stays open.
5. No worker's event loop stalls longer than the bound.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from pygate import _core
from pygate.config import load
from tests.chaos.client import ROUTES
from tests.chaos.scene import Scene, scene
from tests.control.running import wait_for

#: Longest stall of a loop accepted by default. The work of a reload on the loop itself is far below; on a machine with
#: fewer free cores than processes the scheduler adds its time slices.
STALL_BOUND_MS = 50.0
BURST = 10_000

MARKED = """
[policies.mark.headers.request.set]
x-rev = "{number}"
[policies.mark.headers.response.set]
x-rev = "{number}"
[policies.limit.rate_limit]
rate = "1/m"
burst = {burst}
by = "global"
[policies.break.circuit_breaker]
consecutive_failures = 3
open_for = "1h"
[[routes]]
name = "limited"
match = {{ path = "/limited" }}
policies = ["limit"]
service = "up"
expose_revision = true
[[routes]]
name = "broken"
match = {{ path = "/broken" }}
policies = ["break"]
service = "up"
"""
ROUTE = """[[routes]]
name = "r{n}"
match = {{ path = "/r{n}/**" }}
policies = ["mark"]
service = "up"
expose_revision = true
"""

BAD = {
    "not TOML": lambda good: good[: len(good) // 2] + "\n[[routes",
    "unknown key": lambda good: good + "\n[policies.mark2.headers]\nreqest = {}\n",
    "unknown service": lambda good: good.replace('service = "up"', 'service = "down"', 1),
    "unknown policy": lambda good: good.replace('policies = ["mark"]', 'policies = ["marc"]', 1),
}


def routes(number: int) -> str:
    """The routes of the revision with this number."""
    return MARKED.format(number=number, burst=BURST) + "".join(ROUTE.format(n=n) for n in range(ROUTES))


@dataclass
class Round:
    """One change. `took_ms`: from writing the file (or the signal) until it was in force or refused."""

    kind: str
    took_ms: float


@dataclass
class Result:
    """A whole run."""

    rounds: list[Round] = field(default_factory=list)
    requests: int = 0
    revisions: int = 0
    failed: list[str] = field(default_factory=list)
    refused: int = 0
    reset: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    #: What a reload should have left alone, or should have done.
    state: list[str] = field(default_factory=list)
    stall_before_ms: float = 0
    longest_stall_ms: float = 0
    stall_bound_ms: float = STALL_BOUND_MS

    @property
    def ok(self) -> bool:
        broken = self.failed or self.refused or self.reset or self.mixed or self.state
        return not broken and self.requests > 0 and self.longest_stall_ms <= self.stall_bound_ms

    def summary(self) -> str:
        return (
            f"rounds={len(self.rounds)} requests={self.requests} failed={len(self.failed)} refused={self.refused}"
            f" reset={len(self.reset)} mixed={len(self.mixed)} state_lost={len(self.state)} revisions={self.revisions}"
            f" longest_stall_ms={self.longest_stall_ms:.1f} stall_bound_ms={self.stall_bound_ms:.0f}"
            f" stall_before_ms={self.stall_before_ms:.1f}"
        )


class Changer:
    """Runs the rounds in a scene."""

    def __init__(self, made: Scene, rng: random.Random, stall_bound_ms: float) -> None:
        self._scene = made
        self._gateway = made.gateway
        self._rng = rng
        self._number = 0
        #: Marks by revision id.
        self._numbers: dict[str, int] = {}
        #: Requests to the limited route, and when they began.
        self._asked, self._since = 0, time.monotonic()
        self.result = Result(stall_bound_ms=stall_bound_ms)

    def prepare(self) -> None:
        """What the first revision is called, and a breaker that is open from now on."""
        self._numbers[load(self._gateway.config).revision] = 0
        for _ in range(3):
            self._ask("/broken?status=500")
        self.check_state()

    def settle(self) -> None:
        """Notes how much the loops stall without any change."""
        time.sleep(2)
        self.result.stall_before_ms = self._stall_ms()

    def round(self, kind: str) -> None:
        """One change of the configuration, or of the program."""
        time.sleep(self._rng.uniform(0, 0.3))
        began = time.monotonic()
        if kind == "upgrade":
            self._upgrade()
        elif kind.startswith("bad"):
            self._bad(kind)
        else:
            self._good(kind)
        self.result.rounds.append(Round(kind, round((time.monotonic() - began) * 1000, 1)))
        self.check_state()
        self.result.longest_stall_ms = max(self.result.longest_stall_ms, self._stall_ms())

    def finish(self) -> Result:
        """Ends the load and draws the balance."""
        told, result = self._scene.end_load(), self.result
        result.requests = len(told.answered)
        result.failed = [what for _, what in told.wrong] + [what for _, what in told.unanswered if "Timeout" in what]
        result.reset = [what for _, what in told.unanswered if "Timeout" not in what]
        result.refused = len(told.refused)
        for answer in told.answered:
            number = str(self._numbers.get(answer.revision, "unknown"))
            if not number == answer.rev == answer.seen:
                result.mixed.append(f"{answer.id}: {answer.revision} is {number}, rev {answer.rev}, seen {answer.seen}")
        result.revisions = len({answer.revision for answer in told.answered})
        return result

    def check_state(self) -> None:
        """The limit has counted on, the breaker is open."""
        status, fields = self._ask("/limited?size=5")
        self._asked += 1
        left, earned = BURST - self._asked, int((time.monotonic() - self._since) / 60) + 1
        remaining = int(fields.get("ratelimit-remaining", -1))
        if status != 200 or not left <= remaining <= left + earned:
            self.result.state.append(f"limit: {status}, {remaining} remaining, about {left} expected")
        status, fields = self._ask("/broken")
        if status != 503:
            self.result.state.append(f"breaker: {status} {fields.get('x-pygate-error', '')}, 503 expected")

    def _good(self, kind: str) -> None:
        self._number += 1
        text = self._gateway.text(routes(self._number))
        revision = self._revision_of(text)
        self._numbers[revision] = self._number
        self._gateway.put(text)
        if "SIGHUP" in kind:
            self._signal(signal.SIGHUP)
        wait_for(lambda: self._gateway.state()["revision"] == revision, f"revision {revision}")

    def _bad(self, kind: str) -> None:
        before, good, began = self._gateway.state(), self._gateway.config.read_text(), time.time()
        self._gateway.put(BAD[self._rng.choice(list(BAD))](good))
        if "SIGHUP" in kind:
            self._signal(signal.SIGHUP)
        wait_for(lambda: self._refused_since(began), "a refused reload")
        if (now := self._gateway.state()["revision"]) != before["revision"]:
            self.result.state.append(f"a bad file put {now} in force")
        # An upgrade or restart must find a file that can be used.
        self._gateway.put(good)

    def _upgrade(self) -> None:
        before = self._gateway.pid
        self._signal(signal.SIGUSR2)
        wait_for(lambda: self._gateway.pid != before and self._gateway.ask("/-/ready")[0] == 200, "a successor", 40)

    def _refused_since(self, began: float) -> bool:
        # By time, not by count: after an upgrade another process counts anew.
        last = self._gateway.state()["last_reload"]
        return not last["ok"] and last["at"] >= began

    def _signal(self, number: signal.Signals) -> None:
        assert self._gateway.pid is not None
        os.kill(self._gateway.pid, number)

    def _revision_of(self, text: str) -> str:
        path = self._gateway.directory / "next.toml"
        path.write_text(text)
        return load(path).ensure().revision

    def _stall_ms(self) -> float:
        reader = _core.MetricsReader(_core.Shared.open(self._gateway.run_dir / "shared"))
        workers = json.loads(reader.snapshot())["workers"]
        return max((float(w["loop_lag_max_ns"]) for w in workers), default=0.0) / 1e6

    def _ask(self, path: str) -> tuple[int, dict[str, str]]:
        host, _, port = self._gateway.address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"connection": "close"})
            response = connection.getresponse()
            response.read()
            return response.status, {name.lower(): value for name, value in response.getheaders()}


def plan(rounds: int, upgrades: int, rng: random.Random) -> list[str]:
    """Good files and bad ones, by file change and SIGHUP in turn, upgrades among them."""
    kinds = [("bad" if n % 4 == 3 else "good") + (" SIGHUP" if (n + n // 4) % 2 else " file") for n in range(rounds)]
    for at in rng.sample(range(rounds), min(upgrades, rounds)):
        kinds[at] = "upgrade"
    return kinds


def run(
    rounds: int, upgrades: int, seed: int, directory: Path, console: Console, stall_bound_ms: float = STALL_BOUND_MS
) -> Result:
    """A whole run in `directory`."""
    rng = random.Random(seed)
    with scene(directory, routes(0)) as made:
        made.gateway.start()
        changer = Changer(made, rng, stall_bound_ms)
        changer.prepare()
        made.begin_load("reload", 2, 6, seed)
        wait_for(lambda: made.told().answered, "a first answer")
        changer.settle()
        kinds = plan(rounds, upgrades, rng)
        for kind in track(kinds, "reloading", console=console, transient=True, disable=not console.is_terminal):
            changer.round(kind)
        return changer.finish()


def show(result: Result, console: Console) -> None:
    """The rounds by kind, and what does not hold."""
    table = Table("change", "rounds", "median", "longest", title=f"changes under load, {ROUTES} routes")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in dict.fromkeys(r.kind for r in result.rounds):
        took = sorted(r.took_ms for r in result.rounds if r.kind == kind)
        table.add_row(kind, str(len(took)), f"{took[len(took) // 2]:.0f} ms", f"{took[-1]:.0f} ms")
    console.print(table)
    for name in ("failed", "reset", "mixed", "state"):
        for item in getattr(result, name)[:10]:
            console.print(f"[red]{name}[/red] {item}", highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.reload",
        description="Changes the configuration (1,000 routes) under load by file change and SIGHUP, every fourth file a"
        " bad one, and checks that no request failed, no answer was made by two revisions, no state was lost and no"
        " event loop stalled. Exit code 1: a claim does not hold.",
        epilog="examples:\n  python -m tests.chaos.reload --rounds 100\n"
        "  python -m tests.chaos.reload --rounds 20 --upgrade 5 --json reload.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=100, help="changes (default: %(default)s)")
    parser.add_argument("--upgrade", type=int, default=0, metavar="N", help="of them upgrades of the program (SIGUSR2)")
    parser.add_argument(
        "--stall-bound",
        type=float,
        default=STALL_BOUND_MS,
        metavar="MS",
        help="longest accepted stall (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--keep", action="store_true", help="keep the directory with logs and records")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    seed = args.seed if args.seed is not None else random.randrange(1_000_000)
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="pygate-reload-"))
    try:
        result = run(args.rounds, args.upgrade, seed, directory, console, args.stall_bound)
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

"""The gateway under attack, its upstream and the well-behaved client, and what an attack did to them.

Memory is the resident user memory of the control process and the worker. The gateway has one worker, so that everybody
meets on one event loop; its deadlines are short, so that an attack need not last.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pygate import _core
from tests.chaos.greedy.attacks import BASE_MB, DEADLINE, Attack
from tests.chaos.greedy.sizes import prepare
from tests.chaos.scene import free_address
from tests.control.running import Gateway, wait_for
from tests.suites.certificate import issue

CONFIG = """
[entrypoints.web]
address = "{web}"
head_timeout = "{deadline:.0f}s"
body_timeout = "{deadline:.0f}s"
idle_timeout = "300s"
{secure}
[admin]
address = "unix:{directory}/admin.sock"
[audit]
dir = "{directory}/audit"
[workers]
count = 1
drain_timeout = "5s"
[services.up]
endpoints = ["http://127.0.0.1:{upstream}"]
[policies.timed.timeouts]
total = "3s"
[policies.limited.body_limit]
max = "1MiB"
[[routes]]
name = "timed"
match = {{ path = "/timed" }}
policies = ["timed"]
service = "up"
[[routes]]
name = "limited"
match = {{ path = "/limited" }}
policies = ["limited"]
service = "up"
[[routes]]
name = "guarded"
match = {{ path = "/guarded" }}
guard = {{ request = ["pii", "secrets"] }}
service = "up"
[[routes]]
name = "bomb"
match = {{ path = "/bomb" }}
guard = {{ response = ["pii", "secrets"] }}
service = "up"
[[routes]]
name = "all"
match = {{ path = "/**" }}
service = "up"
"""
SECURE = """
[entrypoints.secure]
address = "{address}"
head_timeout = "{deadline:.0f}s"
body_timeout = "{deadline:.0f}s"
idle_timeout = "300s"
[entrypoints.secure.tls]
default_certificate = "greedy"
handshake_timeout = "{deadline:.0f}s"
[certificates.greedy]
cert = "{cert}"
key = "{key}"
"""
#: Signs of a defect in a gateway's log.
SIGNS = ("Traceback", "panicked", "Exception ignored", "exception handler", "died")


@dataclass
class Wave:
    """One run of an attack."""

    ends: dict[str, int] = field(default_factory=dict)
    #: Seconds until the last connection with that end ended.
    last: dict[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0
    #: CPU of the worker, the well-behaved client's share included.
    cpu_seconds: float = 0.0


@dataclass
class Measured:
    """What an attack did. Times of the well-behaved client in milliseconds."""

    attack: str
    connections: int
    before_mb: float = 0.0
    after_mb: float = 0.0
    waves: list[Wave] = field(default_factory=list)
    calm_p50_ms: float = 0.0
    calm_p99_ms: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    #: Requests of the well-behaved client, and those without a 200.
    asked: int = 0
    failed: int = 0
    loop_lag_max_ms: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def ends(self) -> dict[str, int]:
        return dict(sum((Counter(wave.ends) for wave in self.waves), Counter()))

    @property
    def peak_mb(self) -> float:
        return max(wave.peak_mb for wave in self.waves)


@dataclass
class Bounds:
    """What others may feel: p99 at most `factor` times the calm one, or `floor_ms`, whichever is more."""

    factor: float = 5.0
    floor_ms: float = 30.0
    slack: float = 0.0
    """Seconds added to every deadline, for machines that are busy with something else."""


class GreedyGateway(Gateway):
    """A gateway with the configuration above."""

    web: str = ""
    secure: str = ""

    def write(self, extra: str = "") -> None:
        secure = ""
        if self.secure:
            issued = issue(self.directory / "certificates", "greedy.test")
            secure = SECURE.format(address=self.secure, deadline=DEADLINE, cert=issued.cert, key=issued.key)
        values = {"web": self.web, "deadline": DEADLINE, "directory": self.directory, "upstream": self.upstream}
        self.config.write_text(CONFIG.format(secure=secure, **values) + extra)


class Stage:
    """A running gateway and everything around it."""

    def __init__(self, gateway: GreedyGateway, record: Path) -> None:
        self._gateway, self._record, self._offset = gateway, record, 0
        self._worker = dict(gateway.workers())
        self._logged = 0

    def measure(self, attack: Attack, connections: int, bounds: Bounds, calm_seconds: float) -> Measured:
        """Two waves of an attack, and what is wrong with what became of it."""
        found = Measured(attack.name, connections)
        self._times()
        time.sleep(calm_seconds)
        calm = self._times()
        found.calm_p50_ms, found.calm_p99_ms = _percentiles(calm)
        found.before_mb = self._memory_mb()
        for _ in range(2):
            found.waves.append(self._wave(attack, connections, bounds))
            # What a wave held is let go before the next.
            time.sleep(0.5)
        times = self._times()
        time.sleep(0.5)
        found.after_mb = self._memory_mb()
        found.p50_ms, found.p99_ms = _percentiles(times)
        found.asked, found.failed = len(times), sum(status != 200 for _, status in calm + times)
        found.loop_lag_max_ms = self._lag_ms()
        found.wrong = [*_judge(found, attack, bounds), *self._judge_gateway()]
        return found

    def _wave(self, attack: Attack, connections: int, bounds: Bounds) -> Wave:
        _, _, port = (self._gateway.secure if attack.entrypoint == "secure" else self._gateway.web).rpartition(":")
        command = [sys.executable, "-m", "tests.chaos.greedy.attacker", attack.name, port, str(connections)]
        command += [str(attack.seconds), str(attack.within + bounds.slack), str(self._gateway.directory)]
        spent = self._cpu_seconds()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak, done = 0.0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.05):
                peak = max(peak, self._memory_mb())

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            output, _ = process.communicate(timeout=attack.seconds + 180)
        finally:
            process.kill()
            done.set()
            watching.join()
        assert process.returncode == 0, f"the attacker {attack.name} failed"
        told: dict[str, Any] = json.loads(output)
        return Wave(told["ends"], told["last"], peak, self._cpu_seconds() - spent)

    def _times(self) -> list[tuple[float, int]]:
        """Milliseconds and status of the well-behaved client's requests since the last call."""
        with self._record.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        lines = (line.split(" ") for line in text.decode().splitlines())
        return [(int(line[1]) / 1000, int(line[2])) for line in lines]

    def _memory_mb(self) -> float:
        pids = [*self._worker.values(), self._gateway.processes[-1].pid]
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return total * 4096 / 2**20

    def _cpu_seconds(self) -> float:
        total = 0
        for pid in self._worker.values():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def _lag_ms(self) -> float:
        shared = _core.Shared.open(self._gateway.run_dir / "shared")
        workers = json.loads(_core.MetricsReader(shared).snapshot())["workers"]
        return max((float(worker["loop_lag_max_ns"]) for worker in workers), default=0.0) / 1e6

    def _judge_gateway(self) -> list[str]:
        wrong = []
        if self._gateway.workers() != self._worker:
            wrong.append("the worker was replaced")
            self._worker = wait_for(self._gateway.workers, "a worker")
        log = self._gateway.log
        fresh, self._logged = log[self._logged :], len(log)
        wrong += [f"the log says {sign!r}" for sign in SIGNS if sign in fresh]
        return wrong


def _percentiles(times: list[tuple[float, int]]) -> tuple[float, float]:
    """p50 and p99."""
    if len(times) < 2:
        return float("inf"), float("inf")
    cuts = statistics.quantiles((time for time, _ in times), n=100, method="inclusive")
    return cuts[49], cuts[98]


def _judge(found: Measured, attack: Attack, bounds: Bounds) -> list[str]:
    wrong = []
    most = found.before_mb + BASE_MB + found.connections * attack.kb / 1024
    if found.peak_mb > most:
        wrong.append(f"memory rose to {found.peak_mb:.1f} MB, more than {most:.1f}")
    first, second = found.waves[0].peak_mb, found.waves[-1].peak_mb
    # Allocators keep what they were given; what they keep must serve the second wave.
    if second > first + max(2.0, 0.1 * (first - found.before_mb)):
        wrong.append(f"memory was {first:.1f} MB in the first wave and {second:.1f} MB in the second")
    slowest = max(bounds.floor_ms, bounds.factor * found.calm_p99_ms)
    if found.p99_ms > slowest:
        wrong.append(f"p99 of others is {found.p99_ms:.1f} ms, more than {slowest:.1f}")
    if found.failed:
        wrong.append(f"{found.failed} requests of others failed")
    if not found.ends:
        wrong.append("nobody attacked")
    for wave in found.waves:
        for end, count in wave.ends.items():
            if end not in attack.ends:
                wrong.append(f"{count} connections ended {end}; expected {', '.join(sorted(attack.ends))}")
            elif end != "held" and wave.last[end] > attack.within + bounds.slack:
                wrong.append(f"ended {end} after {wave.last[end]:.1f} s, not within {attack.within + bounds.slack:.1f}")
    return wrong


@contextlib.contextmanager
def stage(directory: Path, secure: bool) -> Iterator[Stage]:
    """Everything running; `secure`: with a TLS entrypoint, of which the well-behaved client is a client, too."""
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(_running("tests.chaos.greedy.upstream"))
        assert upstream.stdout is not None
        gateway = GreedyGateway(directory, int(upstream.stdout.readline()), count=1)
        gateway.web, gateway.secure = free_address(), free_address() if secure else ""
        stack.callback(gateway.close)
        prepare(directory)
        gateway.write()
        process = gateway.start(wait=False)
        # Rule packs are compiled first: on a busy machine that takes longer than others wait.
        wait_for(lambda: process.poll() is not None or gateway.ask("/-/ready")[0] == 200, "readiness", 60)
        assert process.poll() is None, gateway.log
        record = directory / "steady.record"
        record.touch()
        ports = [gateway.web.rpartition(":")[2]]
        if secure:
            ports.append("tls:" + gateway.secure.rpartition(":")[2])
        stack.enter_context(_running("tests.chaos.greedy.steady", str(record), *ports))
        wait_for(lambda: record.stat().st_size > 1000, "answers")
        # The first requests pay for what is made once.
        time.sleep(1)
        yield Stage(gateway, record)


@contextlib.contextmanager
def _running(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)

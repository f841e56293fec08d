"""The cases: what is measured, in which order.

Load cases interleave the gateways round by round (ABCD ABCD …), so that whatever else the machine does falls on all of
them, and rows carry medians over the rounds with their spread.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.proxy import load
from bench.proxy.load import Sample, Work
from bench.proxy.origin import ORIGIN_CORE, Origin
from bench.proxy.peers import HOSTS, IDLE_CONNECTIONS, PATHS, PEERS, host, write_pygate
from bench.proxy.processes import Pinned
from bench.proxy.shape import PLAIN, Shape
from pygate import _core

Say = Callable[[str], None]


@dataclass
class Row:
    """One result. Load rows have rates, times and CPU; memory rows have `kb_per_connection` and `rss_mb`."""

    case: str
    peer: str
    requests: int = 0
    errors: int = 0
    rps: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    cpu_us_per_request: float | None = None
    #: Lowest and highest CPU of the rounds.
    spread: tuple[float, float] | None = None
    #: pygate's CPU (or memory) over this peer's.
    ratio: float | None = None
    #: Share of the gateway's core that others used meanwhile.
    foreign: float | None = None
    void: bool = False
    kb_per_connection: float | None = None
    rss_mb: float | None = None
    reloads: int | None = None
    stall_ms: float | None = None


LAG_WINDOW = 10.0
"""Seconds of a window of the lag gauge (`core::observe::LAG_WINDOW_NS`)."""


@dataclass
class Plan:
    """How long and how often."""

    rounds: int
    seconds: float
    body_rounds: int
    reloads: int

    @classmethod
    def quick(cls) -> Plan:
        return cls(rounds=3, seconds=2, body_rounds=2, reloads=5)

    @classmethod
    def full(cls) -> Plan:
        return cls(rounds=7, seconds=4, body_rounds=5, reloads=20)


@dataclass
class Bench:
    """Where cases run."""

    directory: Path
    origin: Origin
    peers: list[str]
    plan: Plan
    say: Say

    @contextlib.contextmanager
    def gateways(
        self, names: list[str], label: str, upstream: int, shape: Shape = PLAIN
    ) -> Iterator[dict[str, tuple[Pinned, int]]]:
        """Fresh processes of these gateways."""
        running: dict[str, tuple[Pinned, int]] = {}
        try:
            for name in names:
                running[name] = PEERS[name].run(self.directory / label, upstream, shape)
            yield running
        finally:
            for gateway, _ in running.values():
                gateway.stop()


LOADS = {
    "get": ("get", Work("GET", "small")),
    "post": ("post", Work("POST", "small", body=1024)),
    "body10m": ("body10m-down", Work("GET", "big", connections=4)),
    "body10m-up": ("body10m-up", Work("POST", "sink", body=10 << 20, connections=4, routes=1, sink=True)),
}


def loads(bench: Bench, case: str) -> list[Row]:
    """One load case over all gateways."""
    title, work = LOADS[case]
    path = load.script(bench.directory, work)
    rounds = bench.plan.body_rounds if case.startswith("body") else bench.plan.rounds
    samples: dict[str, list[Sample]] = {name: [] for name in bench.peers}
    with bench.gateways(bench.peers, title, bench.origin.sink if work.sink else bench.origin.answers) as running:
        for _, port in running.values():
            load.warm(path, port, work)
        for number in range(rounds):
            for name, (gateway, port) in running.items():
                bench.say(f"{title}: round {number + 1} of {rounds}, {name}")
                samples[name].append(load.measure(path, port, work, bench.plan.seconds, gateway, bench.origin))
    return compare([summarise(title, name, found) for name, found in samples.items()], "cpu_us_per_request")


def summarise(case: str, peer: str, samples: list[Sample]) -> Row:
    """Medians over the rounds."""

    def median(read: Callable[[Sample], float]) -> float:
        return statistics.median(read(s) for s in samples)

    costs = [s.cpu_us for s in samples]
    return Row(
        case,
        peer,
        requests=sum(s.requests for s in samples),
        errors=sum(s.errors for s in samples),
        rps=median(lambda s: s.rps),
        p50_ms=median(lambda s: s.p50_ms),
        p99_ms=median(lambda s: s.p99_ms),
        max_ms=max(s.max_ms for s in samples),
        cpu_us_per_request=statistics.median(costs),
        spread=(min(costs), max(costs)),
        foreign=median(lambda s: s.foreign),
        void=sum(s.void for s in samples) * 2 > len(samples),
    )


def compare(rows: list[Row], key: str) -> list[Row]:
    """Fills in the ratios."""
    ours = next((getattr(row, key) for row in rows if row.peer == "pygate"), None)
    for row in rows:
        theirs = getattr(row, key)
        if row.peer != "pygate" and ours is not None and theirs:
            row.ratio = ours / theirs
    return rows


def memory(bench: Bench) -> list[Row]:
    """What a connection costs that made one request and then waits. User memory only, of all processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(IDLE_CONNECTIONS, soft - 500)
    work = LOADS["get"][1]
    path = load.script(bench.directory, work)
    rows = []
    for name in bench.peers:
        bench.say(f"memory: {count} idle connections, {name}")
        with bench.gateways([name], "memory", bench.origin.answers) as running:
            gateway, port = running[name]
            load.warm(path, port, work)
            before = gateway.rss_bytes()
            clients, errors = _idle_connections(port, count)
            time.sleep(1)
            after = gateway.rss_bytes()
            for client in clients:
                client.close()
            each = (sum(after.values()) - sum(before.values())) / max(1, len(clients)) / 1024
            # The largest process is the worker: the control process serves nothing and is not counted here.
            worker = serving(gateway, before)
            rows.append(
                Row(
                    "memory",
                    name,
                    requests=len(clients),
                    errors=errors,
                    kb_per_connection=each,
                    rss_mb=before.get(worker, 0) / 2**20,
                )
            )
    return compare(rows, "kb_per_connection")


def serving(gateway: Pinned, rss: dict[int, int]) -> int:
    """The process that does the work: pygate's worker, nginx's worker, or the only one there is."""
    leaves = [pid for pid in rss if pid != gateway.process.pid]
    return max(leaves or list(rss), key=lambda pid: rss[pid])


def _idle_connections(port: int, count: int) -> tuple[list[socket.socket], int]:
    request = f"GET /api-0/small HTTP/1.1\r\nHost: {host(0)}\r\nUser-Agent: idle\r\n\r\n".encode()
    clients, errors = [], 0
    for _ in range(count):
        try:
            client = socket.create_connection(("127.0.0.1", port), 10)
            client.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < 1024:
                piece = client.recv(16384)
                if not piece:
                    raise ConnectionError("closed before the answer")
                answer += piece
            errors += not answer.startswith(b"HTTP/1.1 200")
            clients.append(client)
        except OSError:
            errors += 1
    return clients, errors


def reload(bench: Bench) -> list[Row]:
    """Configurations of 1,000 routes published while requests are served; nothing may fail or wait."""
    work = Work("GET", "small", connections=8)
    path = load.script(bench.directory, work)
    seconds = max(2.0, bench.plan.reloads * 0.6)
    with bench.gateways(["pygate"], "reload", bench.origin.answers) as running:
        gateway, port = running["pygate"]
        load.warm(path, port, work)
        bench.say("reload: the same load without reloads")
        calm = load.measure(path, port, work, seconds, gateway, bench.origin)
        stalls = [_stall_ms(bench)]
        # The gauge shows the longest stall of its last one or two windows: what went before must not count.
        time.sleep(2 * LAG_WINDOW)
        bench.say(f"reload: {bench.plan.reloads} reloads under load")
        done: list[int] = []
        publisher = threading.Thread(target=_publish, args=(bench, gateway, port, done))
        publisher.start()
        busy = load.measure(path, port, work, seconds, gateway, bench.origin)
        publisher.join()
        stalls.append(_stall_ms(bench))
    rows = [summarise("reload-none", "pygate", [calm]), summarise("reload", "pygate", [busy])]
    rows[1].reloads = len(done)
    for row, stall in zip(rows, stalls, strict=True):
        row.stall_ms = stall
    return rows


def _stall_ms(bench: Bench) -> float:
    """The longest a worker's loop was late lately."""
    shared = _core.Shared.open(bench.directory / "reload" / "pygate" / "run" / "shared")
    workers = json.loads(_core.MetricsReader(shared).snapshot())["workers"]
    return max((float(worker["loop_lag_max_ns"]) for worker in workers), default=0.0) / 1e6


def _publish(bench: Bench, gateway: Pinned, port: int, done: list[int]) -> None:
    """Publishes new revisions one after the other, each awaited; `done` grows by those that took effect."""
    directory = bench.directory / "reload" / "pygate"
    revision = revision_of(port)
    for edition in range(1, bench.plan.reloads + 1):
        time.sleep(0.3)
        write_pygate(directory, port, bench.origin.answers, edition)
        gateway.signal(signal.SIGHUP)
        until = time.monotonic() + 5
        while (found := revision_of(port)) == revision:
            if time.monotonic() > until:
                return
            time.sleep(0.02)
        revision = found
        done.append(edition)


def revision_of(port: int) -> str:
    """The revision that serves the last route, which exposes it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/api-{PATHS - 1}/small", headers={"Host": host(HOSTS - 1)})
        answer = connection.getresponse()
        answer.read()
        return answer.getheader("x-pygate-revision", "")
    finally:
        connection.close()


def settle() -> None:
    """Keeps this process off the gateway's core and lets it hold the idle connections."""
    os.sched_setaffinity(0, {ORIGIN_CORE})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * IDLE_CONNECTIONS
    if os.geteuid() == 0 and hard < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

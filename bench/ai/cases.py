"""The cases: what is measured, in which order.

- `chat`: whole calls with prompts of 2 KB before an nginx with one canned answer.
- `prompts`: the same with mixed prompts of up to 100,000 tokens (400 KB) before `tools models`.
- `stream`: 64 deltas, one every 20 ms, on as many streams as each gateway bears; the time to the first token is also
  measured without any gateway, with as many streams (`direct`). Then 1,000 streams at once, with memory. Rows called
  `-guarded` are pygate's with the guard on, which holds a stream's whole answer; its others are with the guard off.
- `memory`: all gateways at once under chats of all lengths, their resident memory each second.

Gateways are interleaved round by round, rows carry medians with their spread, as in `bench.proxy`. LiteLLM and Portkey
get as much load as they bear without failing; CPU per call does not depend on it.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.ai import generators, peers, prompts, upstream
from bench.ai.generators import Run
from bench.ai.peers import CHAT, Gateway
from bench.proxy.cases import Row, Say, compare, serving, summarise
from bench.proxy.origin import Origin
from bench.proxy.processes import Pinned

CONNECTIONS = {"pygate": 64, "envoy": 64, "portkey": 16, "litellm": 8}
"""Calls under way."""
LONG_CONNECTIONS = {"pygate": 8, "envoy": 8, "portkey": 4, "litellm": 2}
"""The same of long prompts."""
STREAMS = {"pygate": 100, "envoy": 100, "portkey": 16, "litellm": 4}
MANY_STREAMS = 1_000
MANY_PEERS = ("pygate", "envoy")
PLAIN = "/plain" + CHAT


@dataclass
class AiRow(Row):
    """A row of `bench.proxy`, and what is told of streams and memory. Memory is that of the process that serves."""

    connections: int = 0
    #: Calls that pygate's audit log tells with usage and exact cost; the row's are all among them.
    audited: int | None = None
    deltas: int | None = None
    #: CPU of the gateway over deltas: a stream's share of its request is in it.
    cpu_us_per_delta: float | None = None
    ttft_p50_ms: float | None = None
    ttft_p99_ms: float | None = None
    #: p99 minus the p99 of as many streams without a gateway.
    ttft_added_p99_ms: float | None = None
    #: Gaps of more than 100 ms between two deltas of a stream.
    stalls: int | None = None
    gap_p99_ms: float | None = None
    rss_before_mb: float | None = None
    rss_peak_mb: float | None = None
    rss_after_mb: float | None = None
    #: Median of the last quarter of the time minus that of the second quarter.
    rss_growth_mb: float | None = None
    #: About once a second.
    rss_series_mb: list[float] | None = None


@dataclass
class Plan:
    """How long and how often."""

    rounds: int
    seconds: float
    stream_rounds: int
    stream_seconds: float
    many_seconds: float
    memory_seconds: float

    @classmethod
    def quick(cls) -> Plan:
        return cls(rounds=3, seconds=2, stream_rounds=2, stream_seconds=2.5, many_seconds=16, memory_seconds=60)

    @classmethod
    def full(cls) -> Plan:
        return cls(rounds=7, seconds=4, stream_rounds=5, stream_seconds=6, many_seconds=60, memory_seconds=600)


@dataclass
class Bench:
    """Where cases run."""

    directory: Path
    peers: list[str]
    plan: Plan
    say: Say

    @contextlib.contextmanager
    def gateways(self, names: list[str], label: str, origin: Origin) -> Iterator[dict[str, Gateway]]:
        """Fresh processes of these, each seen to answer."""
        running: dict[str, Gateway] = {}
        try:
            for name in names:
                self.say(f"{label}: starting {name}")
                running[name] = peers.run(name, self.directory / label, origin.answers)
                peers.check(running[name])
            yield running
        finally:
            for gateway in running.values():
                gateway.stop()


def row(case: str, peer: str, runs: list[Run], connections: int) -> AiRow:
    """Medians over the rounds."""
    return AiRow(**asdict(summarise(case, peer, [run.sample for run in runs])), connections=connections)


def chat(bench: Bench) -> list[Row]:
    with upstream.whole(bench.directory / "whole") as origin:
        return whole_calls(bench, "chat", origin, prompts.chats(), CONNECTIONS)


def long_prompts(bench: Bench) -> list[Row]:
    with upstream.models(bench.directory / "models") as origin:
        return whole_calls(bench, "prompts", origin, prompts.mixed(), LONG_CONNECTIONS)


def whole_calls(bench: Bench, case: str, origin: Origin, bodies: list[bytes], load: dict[str, int]) -> list[Row]:
    runs: dict[str, list[Run]] = {name: [] for name in bench.peers}
    warmed: dict[str, int] = {}
    rows: list[Row] = []
    with bench.gateways(bench.peers, case, origin) as running:
        files = {name: requests(gateway, case, bodies) for name, gateway in running.items()}

        def run(name: str, seconds: float) -> Run:
            command = generators.chats(running[name].port, load[name], files[name], seconds)
            return generators.measure(command, running[name].process, origin)

        for name in running:
            bench.say(f"{case}: warming {name}")
            warmed[name] = run(name, 1.0).sample.requests
        for number in range(bench.plan.rounds):
            for name in running:
                bench.say(f"{case}: round {number + 1} of {bench.plan.rounds}, {name}")
                runs[name].append(run(name, bench.plan.seconds))
        for name, found in runs.items():
            told = row(case, name, found, load[name])
            if name == "pygate":
                told.audited = peers.audited(running[name])
                if told.audited < told.requests + warmed[name]:
                    raise RuntimeError(
                        f"pygate's audit log tells {told.audited} calls of {told.requests + warmed[name]}"
                    )
            rows.append(told)
    return compare(rows, "cpu_us_per_request")


def requests(gateway: Gateway, label: str, bodies: list[bytes], path: str = CHAT) -> list[Path]:
    return prompts.write(gateway.directory, label, bodies, path, gateway.fields)


@dataclass
class Streams:
    """One row of streams: through which gateway, or none, and how many."""

    case: str
    peer: str
    count: int
    port: int
    file: Path
    process: Pinned
    runs: list[Run] = field(default_factory=list)


def stream(bench: Bench) -> list[Row]:
    with upstream.models(bench.directory / "models") as origin:
        with bench.gateways(bench.peers, "stream", origin) as running:
            rows = paced(bench, origin, running)
        full = [told for name in bench.peers if name in MANY_PEERS for told in many(bench, origin, name)]
        plain = [told for told in full if told.case == f"stream-{MANY_STREAMS}"]
        compare(plain, "cpu_us_per_delta")
        return rows + (full and [many_direct(bench, origin), *full])


def paced(bench: Bench, origin: Origin, running: dict[str, Gateway]) -> list[Row]:
    """As many streams as each gateway bears; the first token against that of the provider."""
    work: list[Streams] = []
    for count in sorted({STREAMS[name] for name in running}):
        files = prompts.write(bench.directory, "direct", prompts.streamed(), CHAT, {})
        work.append(Streams("stream", "direct", count, origin.answers, files[0], origin.processes[0]))
    for name, gateway in running.items():
        for case, path in _variants(name):
            (file,) = requests(gateway, case, prompts.streamed(), path)
            work.append(Streams(case, name, STREAMS[name], gateway.port, file, gateway.process))
    plan = bench.plan
    for one in work:
        bench.say(f"{one.case}: warming {one.peer}")
        generators.measure(generators.streams(one.port, one.count, one.file, 0.1), one.process, origin)
    for number in range(plan.stream_rounds):
        for one in work:
            bench.say(f"{one.case}: round {number + 1} of {plan.stream_rounds}, {one.peer}, {one.count} streams")
            command = generators.streams(one.port, one.count, one.file, plan.stream_seconds)
            one.runs.append(generators.measure(command, one.process, origin))
    rows = [_streamed(one.case, one.peer, one.runs, one.count) for one in work]
    direct = {told.connections: told.ttft_p99_ms for told in rows if told.peer == "direct"}
    for told in rows:
        base = direct[told.connections]
        if told.peer == "direct":
            _without_cpu(told)
        elif told.ttft_p99_ms is not None and base is not None:
            told.ttft_added_p99_ms = told.ttft_p99_ms - base
    plain = [told for told in rows if told.case == "stream"]
    return compare(list(plain), "cpu_us_per_delta") + [told for told in rows if told.case != "stream"]


def _variants(name: str) -> list[tuple[str, str]]:
    """Cases and paths: pygate with the guard off and on, others as they are."""
    return [("stream", PLAIN), ("stream-guarded", CHAT)] if name == "pygate" else [("stream", CHAT)]


def _streamed(case: str, peer: str, runs: list[Run], count: int) -> AiRow:
    def median(key: str) -> float:
        return statistics.median(run.told[key] for run in runs) / 1e3

    told = row(case, peer, runs, count)
    told.deltas = int(sum(run.told["deltas"] for run in runs))
    told.stalls = int(sum(run.told["stalls"] for run in runs))
    told.ttft_p50_ms, told.ttft_p99_ms, told.gap_p99_ms = median("ttft_p50"), median("ttft_p99"), median("gap_p99")
    costs = [run.sample.cpu_us * run.sample.requests / run.told["deltas"] for run in runs if run.told["deltas"]]
    if costs:
        told.cpu_us_per_delta, told.spread = statistics.median(costs), (min(costs), max(costs))
    return told


def many_direct(bench: Bench, origin: Origin) -> Row:
    """A thousand streams without a gateway: the stalls that load and provider make by themselves."""
    (file,) = prompts.write(bench.directory, "direct", prompts.streamed(), CHAT, {})
    bench.say(f"stream-{MANY_STREAMS}: {MANY_STREAMS} streams, direct")
    command = generators.streams(origin.answers, MANY_STREAMS, file, bench.plan.stream_seconds)
    run = generators.measure(command, origin.processes[0], origin)
    return _without_cpu(_streamed(f"stream-{MANY_STREAMS}", "direct", [run], MANY_STREAMS))


def _without_cpu(told: AiRow) -> AiRow:
    """What the provider spent is not a gateway's."""
    told.cpu_us_per_request = told.cpu_us_per_delta = told.spread = told.foreign = None
    told.void = False
    return told


def many(bench: Bench, origin: Origin, name: str) -> list[Row]:
    """A thousand streams at once, on fresh processes, with memory before, during and after."""
    rows: list[Row] = []
    for case, path in _variants(name):
        case = case.replace("stream", f"stream-{MANY_STREAMS}", 1)
        with bench.gateways([name], case, origin) as running:
            gateway = running[name]
            (file,) = requests(gateway, case, prompts.streamed(), path)
            generators.measure(generators.streams(gateway.port, 10, file, 0.1), gateway.process, origin)
            bench.say(f"{case}: {MANY_STREAMS} streams, {name}")
            before = _serving_mb(gateway)
            command = generators.streams(gateway.port, MANY_STREAMS, file, bench.plan.many_seconds)
            with watched({name: gateway}) as series:
                run = generators.measure(command, gateway.process, origin)
            time.sleep(2)
            told = _streamed(case, name, [run], MANY_STREAMS)
            _remember(told, before, series[name], _serving_mb(gateway), generators.STREAM_SECONDS)
            rows.append(told)
    return rows


def memory(bench: Bench) -> list[Row]:
    """All gateways share their core: this is about memory, not about time."""
    with (
        upstream.models(bench.directory / "models") as origin,
        bench.gateways(bench.peers, "memory", origin) as running,
    ):
        bodies = prompts.chats() + prompts.mixed()
        files = {name: requests(gateway, "memory", bodies) for name, gateway in running.items()}

        def start(name: str, seconds: float) -> Callable[[], dict[str, float]]:
            return generators.start(generators.chats(running[name].port, LONG_CONNECTIONS[name], files[name], seconds))

        bench.say("memory: warming all")
        for finish in [start(name, 3.0) for name in running]:
            finish()
        before = {name: _serving_mb(gateway) for name, gateway in running.items()}
        bench.say(f"memory: {bench.plan.memory_seconds:.0f} seconds of chats, all at once")
        with watched(running) as series:
            finishes = {name: start(name, bench.plan.memory_seconds) for name in running}
            numbers = {name: finish() for name, finish in finishes.items()}
        time.sleep(2)
        rows: list[Row] = []
        for name, gateway in running.items():
            found = numbers[name]
            errors = int(sum(found[key] for key in ("connect", "read", "status", "timeout")))
            told = AiRow("memory", name, int(found["requests"]), errors, connections=LONG_CONNECTIONS[name])
            told.rps = found["requests"] / found["seconds"]
            _remember(told, before[name], series[name], _serving_mb(gateway), 0.0)
            rows.append(told)
    return compare(rows, "rss_peak_mb")


def _serving_mb(gateway: Gateway) -> float:
    """Memory of the process that serves."""
    rss = gateway.process.rss_bytes()
    return rss[serving(gateway.process, rss)] / 2**20 if rss else 0.0


@contextlib.contextmanager
def watched(running: dict[str, Gateway]) -> Iterator[dict[str, list[tuple[float, float]]]]:
    """Seconds since the beginning and MB, by gateway, about once a second until it is left."""
    series: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    over, begun = threading.Event(), time.monotonic()

    def watch() -> None:
        while not over.wait(1.0):
            for name, gateway in running.items():
                series[name].append((time.monotonic() - begun, _serving_mb(gateway)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield series
    finally:
        over.set()
        watcher.join()


def _remember(told: AiRow, before: float, series: list[tuple[float, float]], after: float, edge: float) -> None:
    """Fills in memory; growth is judged without `edge` seconds at either end, when streams begin and end."""
    told.rss_before_mb, told.rss_after_mb = before, after
    if not series:
        return
    told.rss_series_mb = [round(mb, 1) for _, mb in series]
    told.rss_peak_mb = max(mb for _, mb in series)
    full = [mb for at, mb in series if edge < at < series[-1][0] - edge]
    if len(full) >= 4:
        quarter = len(full) // 4
        told.rss_growth_mb = statistics.median(full[-quarter:]) - statistics.median(full[quarter : 2 * quarter])


CASES: dict[str, Callable[[Bench], list[Row]]] = {
    "chat": chat,
    "stream": stream,
    "prompts": long_prompts,
    "memory": memory,
}

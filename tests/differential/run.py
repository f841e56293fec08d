"""One run: start everything, send the corpus through every pair, gather what was seen.

Pairs run beside one another, entries of a pair one after the other, so that what follows an entry on a pooled
connection is known. A probe of its own connection follows every entry that came near the origin: it is the victim that
would notice a connection out of step.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.differential import client, judge
from tests.differential.client import Trial
from tests.differential.corpus import TAG, Entry, tag
from tests.differential.judge import Evidence, Finding, Pair
from tests.differential.servers import ID_FIELDS, Stage

PROBE = b"GET /" + TAG + b"/probe HTTP/1.1\r\nHost: test\r\nX-Tag: " + TAG + b"\r\nConnection: close\r\n\r\n"


@dataclass
class Result:
    """What a run has found."""

    evidence: Evidence
    findings: list[Finding]
    seconds: float
    complete: bool

    @property
    def pygate(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.proxy == "pygate"]


def run(
    entries: list[Entry],
    proxies: list[str],
    origins: list[str],
    seconds: float,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Runs `entries`; those that do not fit into `seconds` are left out, and `complete` is false then."""
    started = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="pygate-differential-"))
    stage = Stage(directory)
    try:
        stage.start(proxies, origins)
        say(f"started {len(proxies)} proxies and {len(origins)} origins in {time.monotonic() - started:.0f} s")
        pairs = [(proxy, origin) for proxy in ["direct", *proxies] for origin in origins]
        deadline = started + seconds
        with ThreadPoolExecutor(len(pairs)) as pool:
            tried = pool.map(lambda pair: _pair(stage, pair, entries, deadline, say), pairs)
            evidence = Evidence(entries, dict(zip(pairs, tried, strict=True)))
        time.sleep(1.0)  # what was still under way is written down
        for origin in origins:
            ports = {port: proxy for proxy, port in stage.origins[origin].ports.items()}
            for proxy, seen in judge.read_journal(stage.journal(origin), ports).items():
                evidence.seen[proxy, origin] = seen
        for running in [*stage.origins.values(), *stage.proxies.values()]:
            if running.process.process.poll() is not None:
                raise RuntimeError(f"{running.name} ended during the run: {running.process.tail()}")
        stage.stop()  # the audit log is complete when its writer has ended
        log = directory / "pygate" / "audit" if "pygate" in proxies else None
        findings = judge.judge(evidence, ID_FIELDS, log)
    finally:
        stage.stop()
        shutil.rmtree(directory, ignore_errors=True)
    complete = all(trial is not None for trials in evidence.trials.values() for trial in trials)
    return Result(evidence, findings, time.monotonic() - started, complete)


def _pair(
    stage: Stage, pair: Pair, entries: list[Entry], deadline: float, say: Callable[[str], None]
) -> list[Trial | None]:
    port = stage.port(*pair)
    trials: list[Trial | None] = []
    # The first request of a fresh process may take its time; it has no entry's tag.
    client.send(port, PROBE.replace(TAG, b"warmup"), wait=10)
    for number, entry in enumerate(entries):
        if time.monotonic() > deadline:
            trials.append(None)
            continue
        trial = client.send(port, entry.bytes(number))
        trials.append(trial)
        if pair[0] != "direct" and (not trial.closed or any(answer.origin for answer in trial.answers)):
            probe = client.send(port, PROBE.replace(TAG, tag(number)), wait=3)
            # A probe's answers are part of what the entry has brought about.
            trial.probes.extend(probe.answers)
            trial.probed = True
    say(f"{' → '.join(pair)}: {sum(t is not None for t in trials)} entries")
    return trials

"""A killed worker loses nothing that was acknowledged, whenever it is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pygate import audit

ROUNDS = 25


@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    rng = random.Random(20261123)
    acknowledged: dict[str, int] = {}
    tail = audit.Tail(tmp_path, "begin")
    followed: list[tuple[str, int]] = []
    for number in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.audit.appender", str(tmp_path), str(number % 2)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as appender:
            assert appender.stdout is not None and appender.stderr is not None
            first = appender.stdout.readline()
            assert first, appender.stderr.read().decode()
            time.sleep(rng.uniform(0, 0.12))
            followed += ((r["log"], r["sequence"]) for r in tail.poll())
            appender.send_signal(signal.SIGKILL)
            rest = appender.stdout.read()
        for line in (first + rest).decode().splitlines():
            sequence, exchange = line.split()
            acknowledged[exchange] = int(sequence)
    assert len(acknowledged) > ROUNDS * 5, "too few records to tell anything"

    summary = audit.verify(tmp_path)
    assert summary.ok and summary.logs == 2
    calls = audit.query(tmp_path, limit=10_000_000)
    found = {call["exchange"].replace("-", "") for call in calls if call["complete"]}
    lost = acknowledged.keys() - found
    assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged records are lost"

    while batch := tail.poll():
        followed += ((r["log"], r["sequence"]) for r in batch)
    assert tail.damaged() == 0
    for log in ("worker-0", "worker-1"):
        told = [sequence for name, sequence in followed if name == log]
        assert told == list(range(1, len(told) + 1))
    assert len(followed) == summary.records

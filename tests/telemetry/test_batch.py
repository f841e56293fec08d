"""The bounded queue: what is delivered, repeated, dropped and reported."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import pytest

from pygate.telemetry import batch
from pygate.telemetry.batch import Backoff, Batcher, Tally
from tests.telemetry.receiver import wait_for


def test_everything_comes_in_order_and_in_batches() -> None:
    seen: list[list[int]] = []

    def deliver(items: Sequence[int]) -> None:
        seen.append(list(items))

    tally = Tally()
    batcher: Batcher[int] = Batcher("numbers", deliver, tally, max_batch=10, linger=0.05)
    for n in range(95):
        batcher.put(n)
    batcher.stop(2)
    assert [n for items in seen for n in items] == list(range(95))
    assert max(map(len, seen)) <= 10
    assert (tally.delivered, tally.dropped, tally.failures) == (95, 0, 0)


def test_a_full_queue_drops_and_counts_without_blocking() -> None:
    gate = threading.Event()

    def deliver(items: Sequence[int]) -> None:
        gate.wait(10)

    tally = Tally()
    batcher: Batcher[int] = Batcher("numbers", deliver, tally, max_queue=100, max_batch=10, linger=0)
    batcher.put(-1)
    time.sleep(0.1)
    begun = time.monotonic()
    for n in range(10_000):
        batcher.put(n)
    assert time.monotonic() - begun < 1
    gate.set()
    batcher.stop(5)
    assert tally.delivered + tally.dropped == 10_001
    assert tally.delivered <= 111


def test_a_poisonous_batch_does_not_stop_those_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def deliver(items: Sequence[int]) -> str | None:
        if 0 in items:
            raise ValueError("poison")
        seen.extend(items)
        return None

    tally = Tally()
    with caplog.at_level(logging.WARNING, "pygate.telemetry"):
        batcher: Batcher[int] = Batcher("numbers", deliver, tally, max_batch=1, linger=0, first_pause=0.001)
        for n in range(5):
            batcher.put(n)
        wait_for(lambda: len(seen) == 4)
        batcher.stop(2)
    assert (seen, tally.dropped, tally.failures) == ([1, 2, 3, 4], 1, batch.MAX_ATTEMPTS)
    reports = [r.getMessage() for r in caplog.records]
    assert len(reports) == 2 and "ValueError: poison" in reports[0] and "delivered again" in reports[1]


def test_pauses_double_up_to_a_minute() -> None:
    backoff = Backoff()
    pauses = [backoff.next() for _ in range(10)]
    for pause, whole in zip(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60], strict=True):
        assert whole * 0.8 <= pause <= whole
    backoff.reset()
    assert backoff.next() <= 1


def test_putting_waits_for_room_as_long_as_it_is_told() -> None:
    gate = threading.Event()

    def deliver(items: Sequence[int]) -> None:
        gate.wait(10)

    tally = Tally()
    batcher: Batcher[int] = Batcher("heavy", deliver, tally, max_queue=10, max_batch=1, linger=0, weigh=lambda n: n)
    batcher.put(7)
    wait_for(lambda: batcher._weight == 0)
    batcher.put(9)
    batcher.put(6)  # begun while there was room
    begun = time.monotonic()
    batcher.put(5, wait=0.1)
    assert 0.1 <= time.monotonic() - begun < 5 and tally.dropped == 5
    threading.Timer(0.1, gate.set).start()
    batcher.put(4, wait=10)
    batcher.stop(5)
    assert (tally.delivered, tally.dropped) == (26, 5)

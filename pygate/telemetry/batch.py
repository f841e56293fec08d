"""A bounded queue in front of something that may be slow or gone, with a thread behind it.

Rules:

1. `put` drops what comes new when the queue is full, and counts it; it waits for room only as long as it is told.
2. A batch that fails is tried again after a pause that doubles up to a minute; after `MAX_ATTEMPTS` it is
   dropped and counted, so that one poisonous batch cannot stop a signal for good.
3. Failures are reported once per `REPORT_EVERY` seconds with the last reason, and once when they are over.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

log = logging.getLogger("pygate.telemetry")

MAX_QUEUE = 8192
MAX_BATCH = 512
MAX_ATTEMPTS = 5
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
REPORT_EVERY = 60.0

T = TypeVar("T")

#: Delivers one batch; returns why it failed, or None.
Deliver = Callable[[Sequence[T]], str | None]


@dataclass
class Tally:
    """What became of a signal's items."""

    delivered: int = 0
    dropped: int = 0
    failures: int = 0


class Reporter:
    """Says that something fails, but not over and over."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._failures = 0
        self._next = 0.0

    def failed(self, reason: str) -> None:
        self._failures += 1
        now = time.monotonic()
        if now >= self._next:
            log.warning("%s cannot be delivered (%d failures so far): %s", self._what, self._failures, reason)
            self._next = now + REPORT_EVERY

    def succeeded(self) -> None:
        if self._failures:
            log.warning("%s are delivered again after %d failures", self._what, self._failures)
            self._failures = 0
            self._next = 0.0


class Backoff:
    """Seconds to wait before the next try: 1, 2, 4 … 60, each shortened at random by up to a fifth."""

    def __init__(self, first: float = FIRST_PAUSE) -> None:
        self._first = first
        self._pause = first

    def next(self) -> float:
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause * random.uniform(0.8, 1.0)

    def reset(self) -> None:
        self._pause = self._first


class Batcher(Generic[T]):
    """Collects items and delivers them in batches from its own thread."""

    def __init__(
        self,
        name: str,
        deliver: Deliver[T],
        tally: Tally,
        *,
        max_queue: int = MAX_QUEUE,
        max_batch: int = MAX_BATCH,
        linger: float = 0.2,
        first_pause: float = FIRST_PAUSE,
        weigh: Callable[[T], int] = lambda _: 1,
    ) -> None:
        """`linger`: seconds to wait for a batch to fill. `tally` is counted on.

        `weigh`: what an item counts for in limits and tally; the last of a batch may exceed its limit.
        """
        self.tally = tally
        self._deliver = deliver
        self._max_queue = max_queue
        self._max_batch = max_batch
        self._linger = linger
        self._weigh = weigh
        self._backoff = Backoff(first_pause)
        self._reporter = Reporter(name)
        self._queue: deque[T] = deque()
        self._weight = 0
        self._wake = threading.Condition()
        self._ending = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"pygate-{name.replace(' ', '-')}", daemon=True)
        self._thread.start()

    def put(self, item: T, wait: float = 0.0) -> None:
        """Seconds to `wait` for room in a full queue before `item` is dropped."""
        weight = self._weigh(item)
        with self._wake:
            if self._is_full() and not (wait and self._wake.wait_for(lambda: not self._is_full(), wait)):
                self.tally.dropped += weight
                return
            before = self._weight
            self._queue.append(item)
            self._weight += weight
            if not before or before < self._max_batch <= self._weight:
                self._wake.notify_all()

    def _is_full(self) -> bool:
        return self._weight >= self._max_queue

    def stop(self, timeout: float) -> None:
        """Delivers what is queued as far as `timeout` seconds allow, then drops the rest.

        A delivery that hangs is left behind; its thread is a daemon.
        """
        with self._wake:
            self._deadline = time.monotonic() + timeout
            self._ending.set()
            self._wake.notify()
        self._thread.join(timeout)

    def join(self, timeout: float) -> None:
        """Waits for the thread after `stop`."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._take():
            self._send(batch)
        with self._wake:
            self.tally.dropped += self._weight
            self._queue.clear()
            self._weight = 0

    def _take(self) -> list[T]:
        """The next batch; empty when it is time to go."""
        with self._wake:
            while not self._queue and not self._ending.is_set():
                self._wake.wait()
            if self._weight < self._max_batch and not self._ending.is_set():
                self._wake.wait(self._linger)
            if time.monotonic() >= self._deadline:
                return []
            batch: list[T] = []
            taken = 0
            while self._queue and taken < self._max_batch:
                batch.append(self._queue.popleft())
                taken += self._weigh(batch[-1])
            self._weight -= taken
            self._wake.notify_all()
            return batch

    def _send(self, batch: list[T]) -> None:
        weight = sum(map(self._weigh, batch))
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                reason = self._deliver(batch)
            except Exception as e:  # an exporter's defect must not end the thread
                reason = f"{type(e).__name__}: {e}"
            if reason is None:
                self.tally.delivered += weight
                self._backoff.reset()
                self._reporter.succeeded()
                return
            self.tally.failures += 1
            self._reporter.failed(reason)
            if attempt == MAX_ATTEMPTS or self._give_up(self._backoff.next()):
                break
        self.tally.dropped += weight

    def _give_up(self, pause: float) -> bool:
        """Waits, and tells whether the end came meanwhile and leaves no time for another try."""
        until = time.monotonic() + pause
        if self._ending.wait(pause):
            rest = min(until, self._deadline) - time.monotonic()
            if rest > 0:
                time.sleep(rest)
        return time.monotonic() >= self._deadline

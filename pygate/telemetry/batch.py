"""A bounded queue in front of something that may be slow or gone, with a thread behind it.

Rules:

1. `put` never blocks. A full queue drops what comes new, and counts it.
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
    ) -> None:
        """`linger`: seconds to wait for a batch to fill. `tally` is counted on."""
        self.tally = tally
        self._deliver = deliver
        self._max_queue = max_queue
        self._max_batch = max_batch
        self._linger = linger
        self._backoff = Backoff(first_pause)
        self._reporter = Reporter(name)
        self._queue: deque[T] = deque()
        self._wake = threading.Condition()
        self._ending = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"pygate-{name.replace(' ', '-')}", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        with self._wake:
            if len(self._queue) >= self._max_queue:
                self.tally.dropped += 1
                return
            self._queue.append(item)
            if len(self._queue) in (1, self._max_batch):
                self._wake.notify()

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
            self.tally.dropped += len(self._queue)
            self._queue.clear()

    def _take(self) -> list[T]:
        """The next batch; empty when it is time to go."""
        with self._wake:
            while not self._queue and not self._ending.is_set():
                self._wake.wait()
            if len(self._queue) < self._max_batch and not self._ending.is_set():
                self._wake.wait(self._linger)
            if time.monotonic() >= self._deadline:
                return []
            return [self._queue.popleft() for _ in range(min(len(self._queue), self._max_batch))]

    def _send(self, batch: list[T]) -> None:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                reason = self._deliver(batch)
            except Exception as e:  # an exporter's defect must not end the thread
                reason = f"{type(e).__name__}: {e}"
            if reason is None:
                self.tally.delivered += len(batch)
                self._backoff.reset()
                self._reporter.succeeded()
                return
            self.tally.failures += 1
            self._reporter.failed(reason)
            if attempt == MAX_ATTEMPTS or self._give_up(self._backoff.next()):
                break
        self.tally.dropped += len(batch)

    def _give_up(self, pause: float) -> bool:
        """Waits, and tells whether the end came meanwhile and leaves no time for another try."""
        until = time.monotonic() + pause
        if self._ending.wait(pause):
            rest = min(until, self._deadline) - time.monotonic()
            if rest > 0:
                time.sleep(rest)
        return time.monotonic() >= self._deadline

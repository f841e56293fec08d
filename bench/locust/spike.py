"""Open loop: requests arrive when they arrive, whether or not earlier ones were answered.

Arrivals are drawn before the start from a Poisson process whose rate is `base` per second, `spike` in the middle third.
Each gets a greenlet of its own, and its latency counts from the moment it was meant to start: a gateway that stalls is
charged for those who had to wait behind the stall. Arrivals that could not be sent before the end count as failed.
"""

from __future__ import annotations

import os
import random
import time

import gevent
from geventhttpclient import HTTPClient
from locust import User, task

BASE = float(os.environ.get("SPIKE_BASE", "50"))
PEAK = float(os.environ.get("SPIKE_PEAK", "300"))
SECONDS = float(os.environ.get("SPIKE_SECONDS", "15"))
PATH = "/orders/spike"
GRACE = float(os.environ.get("SPIKE_GRACE", "5"))


def arrivals(base: float, peak: float, seconds: float, seed: int = 1) -> list[float]:
    """Seconds after the start, in order; the same for the same arguments."""
    draw = random.Random(seed)
    found: list[float] = []
    at = 0.0
    while True:
        # Thinning: draw at the peak rate, keep each with the share of the rate that holds at that time.
        at += draw.expovariate(max(base, peak))
        if at >= seconds:
            return found
        rate = peak if seconds / 3 <= at < seconds * 2 / 3 else base
        if draw.random() * max(base, peak) < rate:
            found.append(at)


class Crowd(User):
    """One user is the whole crowd; it runs the schedule once."""

    fixed_count = 1

    @task
    def run_schedule(self) -> None:
        schedule = arrivals(BASE, PEAK, SECONDS)
        client = HTTPClient.from_url(self.host or "", concurrency=len(schedule), network_timeout=SECONDS + GRACE)
        began = time.perf_counter()

        def arrive(at: float) -> None:
            gevent.sleep(max(0.0, began + at - time.perf_counter()))
            failure: BaseException | None = None
            body = b""
            try:
                answer = client.get(PATH)
                body = answer.read()
                if answer.status_code != 200:
                    failure = RuntimeError(f"status {answer.status_code}")
            except Exception as error:
                failure = error
            self.report(began + at, len(body), failure)

        greenlets = [gevent.spawn(arrive, at) for at in schedule]
        gevent.joinall(greenlets, timeout=SECONDS + GRACE)
        for at, greenlet in zip(schedule, greenlets, strict=True):
            if not greenlet.ready():
                greenlet.kill()
                self.report(began + at, 0, TimeoutError("unsent or unanswered at the end"))
        self.environment.runner.quit()

    def report(self, intended: float, length: int, failure: BaseException | None) -> None:
        """Latency from the intended start."""
        self.environment.events.request.fire(
            request_type="GET",
            name=PATH,
            response_time=(time.perf_counter() - intended) * 1000,
            response_length=length,
            exception=failure,
            context={},
        )

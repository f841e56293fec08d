"""Stops a hook that takes too long, even one that loops for ever.

Rules:

1. Main thread only: SIGALRM interrupts Python code between two of its instructions, and blocking calls that heed
   signals. A long call into C that does not look at signals is only noticed when it returns.
2. `BudgetExceeded` is a `BaseException`, so that `except Exception` does not swallow it; the alarm rings again
   every `AGAIN` seconds for code that does.
3. The signal does nothing outside a hook.
"""

from __future__ import annotations

import signal
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from time import monotonic
from typing import Any, TypeVar

#: Seconds between further alarms for a hook that swallowed the first.
AGAIN = 0.01
#: Shortest alarm that can be set; zero would switch it off.
_SHORTEST = 1e-6

T = TypeVar("T")


class BudgetExceeded(BaseException):
    """The hook took longer than its budget."""


class Alarm:
    """Interrupts calls. One per process."""

    def __init__(self) -> None:
        self._armed = False

    def install(self) -> None:
        """Takes over SIGALRM. Raises `ValueError` outside the main thread."""
        signal.signal(signal.SIGALRM, self._ring)

    def _ring(self, _signal: int, _frame: types.FrameType | None) -> None:
        if self._armed:
            raise BudgetExceeded

    def call(self, seconds: float, work: Callable[[], T]) -> T:
        """`work()`, or `BudgetExceeded` after `seconds`."""
        try:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, max(seconds, _SHORTEST), AGAIN)
            return work()
        finally:
            self._disarm()

    def _disarm(self) -> None:
        # The alarm may ring between any two instructions, in here too: then what follows is done once more.
        late = False
        while True:
            try:
                self._armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
                break
            except BudgetExceeded:
                late = True
        if late:
            raise BudgetExceeded

    @types.coroutine
    def steps(self, seconds: float, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Runs a coroutine so that no step of it between two awaits takes longer than what is left of `seconds`."""
        deadline = monotonic() + seconds
        value: Any = None
        error: BaseException | None = None
        while True:
            left = deadline - monotonic()
            try:
                if error is None:
                    waits_for = self.call(left, partial(work.send, value))
                else:
                    # It may clean up, though its time is over.
                    waits_for = self.call(max(left, AGAIN), partial(work.throw, error))
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                value, error = (yield waits_for), None
            except BaseException as e:  # cancellation and timeouts go on into the coroutine
                value, error = None, e

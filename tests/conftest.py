"""What holds for every test: nothing may reach an event loop's exception handler unseen.

uvloop and asyncio report what no one caught – an exception in a protocol callback, a task nobody awaited – through the
loop's exception handler, whose default only logs to `asyncio`. Such a message is a defect even when the test passed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


@pytest.fixture(autouse=True)
def no_uncaught_in_loop() -> Iterator[None]:
    """Fails a test during which an event loop reported an uncaught error."""
    collector = _Collector()
    logger = logging.getLogger("asyncio")
    logger.addHandler(collector)
    try:
        yield
    finally:
        logger.removeHandler(collector)
    if collector.messages:
        pytest.fail("the event loop's exception handler was called:\n" + "\n".join(collector.messages), pytrace=False)

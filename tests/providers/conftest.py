from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.providers.running import Simulator


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def providers(_simulator: Simulator) -> Iterator[Simulator]:
    """The simulator without faults and with an empty ledger."""
    _simulator.reset()
    yield _simulator
    _simulator.reset()

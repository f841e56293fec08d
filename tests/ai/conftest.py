"""Both kinds of store, real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pygate.ai.store import Store
from tests.ai import postgres
from tests.control.conftest import gateway, upstream

__all__ = ["gateway", "upstream"]

#: A moment: Wednesday, 2026-11-25 21:30:00 UTC.
NOW = 1_795_642_200


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store can be made, once per kind."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/store/keys.db"
    server: postgres.Server = request.getfixturevalue("server")
    return server.database()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store.open(url)
    yield store
    store.close()

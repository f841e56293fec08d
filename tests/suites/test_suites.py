"""Every suite holds, on one gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.suites.place import Place, place
from tests.suites.suites import SUITES


@pytest.fixture(scope="module")
def where() -> Iterator[Place]:
    with place() as running:
        yield running
        signs = running.signs()
    assert not signs, signs


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", SUITES)
def test_suite(where: Place, name: str) -> None:
    found = SUITES[name](where)
    assert found and not [check for check in found if not check.ok]

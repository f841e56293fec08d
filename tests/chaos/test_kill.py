"""A short run of `python -m tests.chaos.kill` holds its claims."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos import kill


@pytest.mark.timeout(90)
def test_kills_lose_nothing_and_refuse_nobody(tmp_path: Path) -> None:
    result = kill.run(6, seed=1, durability=["answer", "call"], directory=tmp_path, console=Console(quiet=True))
    assert result.ok, (result.summary(), result.lost[:5], result.unannounced[:5], result.damaged, result.wrong[:5])
    assert result.answered == result.audited > 500
    assert {r.kind for r in result.rounds} == set(kill.KINDS)
    assert result.unanswered > 0, "the kills hit nobody"

"""A short run of `python -m tests.chaos.reload` holds its claims."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos import reload

#: Wide: tests share their machine with whatever else runs there. The command itself has the narrow bound.
STALL_BOUND_MS = 500.0


@pytest.mark.timeout(90)
def test_changes_go_unnoticed(tmp_path: Path) -> None:
    result = reload.run(8, 1, 1, tmp_path, Console(quiet=True), STALL_BOUND_MS)
    assert result.ok, (result.summary(), result.failed[:5], result.reset[:5], result.mixed[:5], result.state)
    assert {"good file", "good SIGHUP", "upgrade"} <= {r.kind for r in result.rounds}
    assert any(r.kind.startswith("bad") for r in result.rounds)
    assert result.revisions >= 5 and result.requests > 500

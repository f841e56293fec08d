"""A short run of `python -m tests.chaos.greedy` holds its claims."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.greedy.attacks import BY_NAME
from tests.chaos.greedy.run import Result, run
from tests.chaos.greedy.stage import Bounds

#: Wide: tests share their machine with whatever else runs there. The command itself has the narrow bounds.
BOUNDS = Bounds(factor=5, floor_ms=5000, slack=15)
#: Name → connections. Those that wait for a deadline take their time, the others need little.
SLOW = {"tls-handshake-bytewise": 20, "body-stops-tls": 20, "answer-unread": 10}
FAST = {
    "idle-tls": 100,
    "fields-many": 8,
    "body-chunked": 8,
    "bomb-gzip": 8,
    "bomb-answered": 8,
    "h2-rapid-reset": 4,
    "h2-continuation": 4,
    "h2-settings": 4,
    "h2-hpack-bomb": 4,
}


@pytest.mark.timeout(400)
def test_greedy_clients_harm_nobody() -> None:
    result = Result()
    directory = Path(tempfile.mkdtemp(prefix="pygate-"))
    attacks = [dataclasses.replace(BY_NAME[name], connections=count) for name, count in SLOW.items()]
    attacks += [dataclasses.replace(BY_NAME[name], connections=count, seconds=1.5) for name, count in FAST.items()]
    try:
        run(attacks, 1.0, directory, result, lambda _: None, BOUNDS, calm_seconds=0.5)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    assert result.ok, result.wrong
    assert len(result.measured) == len(attacks)
    assert all(found.asked > 20 for found in result.measured), "the others were hardly served"

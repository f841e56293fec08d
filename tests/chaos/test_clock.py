"""The wall clock jumps by days while calls are served: nobody notices, the log stays in order."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import pytest

from pygate import audit
from tests.chaos.kill import ROUTE
from tests.chaos.records import compare
from tests.chaos.scene import scene
from tests.control.running import wait_for

DAY_NS = 86_400_000_000_000


def preload(offset: Path) -> dict[str, str]:
    """Variables by which a process reads its wall clock as `offset` says (`+1d`); the monotonic clock stays true."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    assert libraries, "libfaketime is missing; install it with: apt-get install libfaketime"
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.timeout(60)
def test_jumps_of_a_day_disturb_nobody(tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    offset.write_text("+0d\n")
    routes = "".join(ROUTE.format(durability=name) for name in ("answer", "call"))
    with scene(tmp_path, routes) as made:
        made.gateway.start(preload(offset))
        made.begin_load("answer+call", 1, 6, 1)
        wait_for(lambda: made.told().answered, "a first answer")
        for jump in ("+1d", "-1d", "+0d"):
            time.sleep(0.8)
            fresh = tmp_path / "offset.new"
            fresh.write_text(f"{jump}\n")
            fresh.rename(offset)
        time.sleep(0.8)
        assert set(made.gateway.workers().values()) <= made.gateway.worker_pids()
        told = made.end_load()
        assert not (told.wrong or told.refused or told.unanswered), (told.wrong[:5], told.refused, told.unanswered[:5])
        assert "died" not in made.gateway.log
        found = compare(made.gateway.audit, told.answered, made.called)
        assert found.ok and found.audited == len(told.answered) > 100, (found.lost[:5], found.damaged)

        calls = audit.query(made.gateway.audit, limit=1_000_000)
        began = [call["start_ns"] for call in calls]
        assert max(began) - min(began) > 1.9 * DAY_NS, "the clock did not jump"
        assert all(0 <= call["duration_ns"] < 10e9 for call in calls)
        # Order is the log's own, not the clock's: whoever reads finds every call, whatever time its id tells.
        for call in (calls[0], calls[len(calls) // 2], calls[-1]):
            assert audit.find(made.gateway.audit, UUID(call["exchange"]))

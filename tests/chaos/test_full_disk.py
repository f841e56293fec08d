"""A full disk under the audit log of a running gateway: routes do what they say, room heals everything."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pygate import _core, audit
from tests.chaos.scene import Answered, Scene, scene
from tests.control.running import wait_for

ROUTE = """
[[routes]]
name = "{durability}-{fail}"
match = {{ path = "/{durability}/{fail}" }}
service = "up"
audit = {{ durability = "{durability}", fail = "{fail}" }}
"""
DURABILITIES = ("async", "answer", "call")
ROUTES = "".join(ROUTE.format(durability=d, fail=f) for d in DURABILITIES for f in ("open", "closed"))


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of 2 MiB at `path`; without the right to mount, the test is about nothing."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small tmpfs: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


class Asked:
    """Requests to one gateway, each on a connection of its own."""

    def __init__(self, made: Scene) -> None:
        self._host, _, port = made.gateway.address.rpartition(":")
        self._port = int(port)
        #: Complete answers of the upstream on routes that promise a record.
        self.promised: list[Answered] = []

    def get(self, path: str) -> tuple[int, str]:
        """Status and error code; an answer that is not complete raises."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=8)
        with contextlib.closing(connection):
            connection.request("GET", f"{path}?size=10")
            response = connection.getresponse()
            response.read()
            identity = response.headers["x-request-id"]
            assert identity, "every answer tells its exchange"
            if response.status == 200 and path.endswith("closed") and not path.startswith("/async"):
                self.promised.append(Answered(time.monotonic_ns(), identity, 200, path, "-", "-", "-"))
            return response.status, response.headers.get("x-pygate-error", "")


def counters(made: Scene) -> dict[str, int]:
    """The gateway's own counters, from shared memory."""
    reader = _core.MetricsReader(_core.Shared.open(made.gateway.run_dir / "shared"))
    found: dict[str, Any] = json.loads(reader.snapshot())
    return {c["name"]: int(c["value"]) for c in found["counters"]}


def fill(path: Path) -> Path:
    """Takes every byte that is left."""
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\1" * 4096):
            pass
    return ballast


@pytest.mark.timeout(60)
def test_routes_do_what_they_say_and_room_heals(tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()
    with small_disk(tmp_path / "scene" / "audit"), scene(tmp_path / "scene", ROUTES, count=1) as made:
        made.gateway.start()
        asked = Asked(made)
        everywhere = [f"/{d}/{f}" for d in DURABILITIES for f in ("open", "closed")]
        assert [asked.get(path) for path in everywhere] == [(200, "")] * 6

        ballast = fill(made.gateway.audit)
        # Small records fit into the last page for a while; those that wait when the log breaks are decided, too.
        with ThreadPoolExecutor(4) as pool:
            wait_for(
                lambda: (503, "audit-failed") in pool.map(asked.get, ["/answer/closed", "/call/closed"] * 8), "503"
            )
        before = counters(made)["pygate.audit.failed"]
        called = len(made.called)
        for _ in range(3):
            for durability in DURABILITIES:
                assert asked.get(f"/{durability}/closed") == (503, "audit-failed")
        assert len(made.called) == called, "a refused request must not reach the upstream"
        for _ in range(3):
            for durability in DURABILITIES:
                assert asked.get(f"/{durability}/open") == (200, "")
        # Every promise that was not kept is counted.
        assert counters(made)["pygate.audit.failed"] > before

        wait_for(lambda: "cannot write its audit log: No space left on device" in made.gateway.log, "the alarm")
        ballast.unlink()
        wait_for(lambda: asked.get("/call/closed") == (200, ""), "the log to heal")
        assert [asked.get(path) for path in everywhere] == [(200, "")] * 6
        logged = {c["exchange"]: c for c in audit.query(made.gateway.audit, limit=1_000_000)}
        for answer in asked.promised:
            assert logged[answer.id]["complete"] and logged[answer.id]["status"] == 200
        wait_for(lambda: "writes its audit log again" in made.gateway.log, "the alarm's end")
        assert audit.verify(made.gateway.audit).ok

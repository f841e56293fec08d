"""promtool: `/metrics` is what Prometheus expects, by its own linter."""

from __future__ import annotations

import subprocess

from tests.suites.check import Check, Checks
from tests.suites.place import Place


def run(place: Place) -> list[Check]:
    checks = Checks("promtool")
    with checks.feature("check metrics"):
        status, text = place.gateway.ask("/metrics")
        assert status == 200 and text.count(b"# TYPE") > 20, f"{status}, {len(text)} bytes"
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()[-600:]
    return checks.found

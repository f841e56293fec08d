"""Go's net/http client: `clients/http2.go`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.suites.check import Check, Checks, output_of
from tests.suites.place import Place

PROGRAM = Path(__file__).parent / "clients" / "http2.go"


def run(place: Place) -> list[Check]:
    checks = Checks("Go net/http")
    binary = place.directory / "go-client"
    with checks.feature("builds"):
        env = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0"}
        command = ["go", "build", "-o", str(binary), str(PROGRAM)]
        built = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
        assert built.returncode == 0, built.stderr[-600:]
    with checks.feature("runs to its end"):
        checks.take(output_of([str(binary), place.secure_url, str(place.authority)], 60))
    return checks.found

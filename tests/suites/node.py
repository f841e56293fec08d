"""Node's http2 client: `clients/http2.mjs`."""

from __future__ import annotations

from pathlib import Path

from tests.suites.check import Check, Checks, output_of
from tests.suites.place import Place

SCRIPT = Path(__file__).parent / "clients" / "http2.mjs"


def run(place: Place) -> list[Check]:
    checks = Checks("Node http2")
    command = ["node", str(SCRIPT), place.secure_url, place.plain_url, str(place.authority)]
    with checks.feature("runs to its end"):
        checks.take(output_of(command, 60))
    return checks.found

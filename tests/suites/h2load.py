"""h2load: thousands of requests, none of which may fail."""

from __future__ import annotations

import re

from tests.suites.check import Check, Checks, output_of
from tests.suites.place import Place

REQUESTS = 2000


def run(place: Place) -> list[Check]:
    checks = Checks("h2load")
    runs = {
        "HTTP/2 over TLS, 10 streams": (["-c10", "-m10"], place.secure_url),
        "HTTP/2 over TLS, 100 streams": (["-c2", "-m100"], place.secure_url),
        "h2c, 10 streams": (["-c10", "-m10"], place.plain_url),
        "HTTP/1.1 over TLS": (["-c10", "--h1"], place.secure_url),
        "HTTP/1.1": (["-c10", "--h1"], place.plain_url),
        "small windows": (["-c4", "-m10", "-w10", "-W12"], place.secure_url),
    }
    for feature, (options, url) in runs.items():
        with checks.feature(feature):
            command = ["h2load", "-t1", f"-n{REQUESTS}", *options, f"{url}/big?size=3000"]
            _succeeded(output_of(command, 60))
    with checks.feature("uploads over HTTP/2"):
        data = place.directory / "upload"
        data.write_bytes(b"h2load" * 5000)
        _succeeded(
            output_of(["h2load", "-t1", f"-n{REQUESTS}", "-c4", "-m10", f"-d{data}", f"{place.secure_url}/echo"])
        )
    return checks.found


def _succeeded(output: str) -> None:
    """Every request was answered with 2xx."""
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    statuses = re.search(r"(\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    assert counts and statuses, output[-500:]
    assert counts.groups() == (str(REQUESTS), "0", "0", "0"), counts[0]
    assert statuses.groups() == (str(REQUESTS), "0", "0", "0"), statuses[0]

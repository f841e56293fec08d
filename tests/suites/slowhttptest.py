"""slowhttptest: the gateway stays available under each of its four tests."""

from __future__ import annotations

import re

from tests.suites.check import Check, Checks, output_of
from tests.suites.curl import curl
from tests.suites.place import Place

CONNECTIONS, SECONDS = 300, 5
#: Seconds after which a probe without an answer counts as "not available".
PROBE = 3


def run(place: Place) -> list[Check]:
    checks = Checks("slowhttptest")
    common = ["-c", str(CONNECTIONS), "-r", "300", "-l", str(SECONDS), "-p", str(PROBE)]
    runs = {
        "slow head": (["-H", "-i", "1", "-x", "24"], "/echo"),
        "slow body": (["-B", "-i", "1", "-s", "8192", "-x", "10"], "/echo"),
        "ranges": (["-R", "-a", "5", "-b", "1000"], "/file"),
        "slow reading": (["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32"], "/big?size=2000000"),
    }
    for feature, (options, path) in runs.items():
        for over, url in {"": place.plain_url, ", TLS": place.secure_url}.items():
            with checks.feature(feature + over):
                # It ends with 255 when all connections were closed before its time, which is what should happen.
                output = output_of(["slowhttptest", *options, *common, "-u", url + path], SECONDS + 40, code=None)
                plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output)
                said = re.findall(r"service available:\s+(YES|NO)", plain)
                assert said and "NO" not in said, plain[-500:]
                assert set(re.findall(r"error:\s+(\d+)", plain)) == {"0"}, plain[-500:]
                assert curl(place, f"{url}/echo")[1]["response_code"] == 200
    return checks.found

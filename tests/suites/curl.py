"""curl: HTTP/1.1, HTTP/2 and both versions of TLS."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.suites.check import Check, Checks
from tests.suites.place import Place
from tests.suites.upstream import FILE

BODY = bytes(range(256)) * 8192


def curl(place: Place, *arguments: str, data: bytes = b"") -> tuple[bytes, dict[str, Any]]:
    """Body and facts of a request that must succeed."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--cacert", str(place.authority)]
    done = subprocess.run([*command, "--write-out", "%{stderr}%{json}\\n", *arguments], input=data, capture_output=True)
    assert done.returncode == 0, f"code {done.returncode}: {done.stderr.decode(errors='replace')[:400]}"
    # In parallel, curl shows its progress there, too.
    told = [line[line.index("{") :] for line in done.stderr.decode().splitlines() if "{" in line]
    facts: dict[str, Any] = json.loads(told[-1])
    return done.stdout, facts


#: Feature → arguments, whether by TLS, version that must have been spoken.
PROTOCOLS = {
    "HTTP/1.1": (["--http1.1"], False, "1.1"),
    "HTTP/1.1 over TLS": (["--http1.1"], True, "1.1"),
    "HTTP/2 over TLS": (["--http2"], True, "2"),
    "HTTP/2 by prior knowledge": (["--http2-prior-knowledge"], False, "2"),
    "HTTP/1.0": (["--http1.0"], False, "1.0"),
    "offer to upgrade to h2c": (["--http2"], False, "1.1"),
    "TLS 1.2": (["--tls-max", "1.2"], True, "2"),
    "TLS 1.3": (["--tlsv1.3"], True, "2"),
}


def run(place: Place) -> list[Check]:
    checks = Checks("curl")
    for feature, (options, secure, version) in PROTOCOLS.items():
        with checks.feature(feature):
            body, facts = curl(place, *options, f"{place.secure_url if secure else place.plain_url}/echo")
            assert body == b"hello" and facts["response_code"] == 200
            # An answer to HTTP/1.0 is one of HTTP/1.1 (RFC 9110 §6.2).
            assert facts["http_version"] == ("1.1" if version == "1.0" else version), facts["http_version"]
    for version, options in {"1.1": ["--http1.1"], "2": ["--http2"]}.items():
        url = place.secure_url
        with checks.feature(f"HTTP/{version}: 2 MiB up and down"):
            body, _ = curl(place, *options, "--data-binary", "@-", f"{url}/echo", data=BODY)
            assert body == BODY
        with checks.feature(f"HTTP/{version}: upload of unknown length"):
            body, _ = curl(place, *options, "--upload-file", "-", f"{url}/echo", data=BODY)
            assert body == BODY
        with checks.feature(f"HTTP/{version}: Expect: 100-continue"):
            arguments = [*options, "--header", "expect: 100-continue", "--data-binary", "@-", f"{url}/echo"]
            assert curl(place, *arguments, data=b"x" * 5000)[0] == b"x" * 5000
        with checks.feature(f"HTTP/{version}: HEAD"):
            body, _ = curl(place, *options, "--head", f"{url}/big?size=1000")
            assert b"content-length: 1000" in body.lower()
        with checks.feature(f"HTTP/{version}: ranges"):
            body, facts = curl(place, *options, "--range", "100-199", f"{url}/file")
            assert facts["response_code"] == 206 and body == FILE[100:200]
        with checks.feature(f"HTTP/{version}: 204 and 304"):
            for status in (204, 304):
                body, facts = curl(place, *options, f"{url}/status/{status}")
                assert facts["response_code"] == status and not body
        with checks.feature(f"HTTP/{version}: one connection for many requests"):
            _, facts = curl(place, *options, *[f"{url}/big?size={n}" for n in range(1, 21)])
            assert facts["num_connects"] == 0, "the last request opened a connection"
    with checks.feature("20 requests in parallel on HTTP/2"):
        urls = [f"{place.secure_url}/big?size=100000" for _ in range(20)]
        assert len(curl(place, "--http2", "--parallel", *urls)[0]) == 20 * 100_000
    with checks.feature("server-sent events as they come"):
        body, facts = curl(place, "--http2", "--no-buffer", f"{place.secure_url}/events")
        assert body.count(b"data: ") == 5 and facts["time_starttransfer"] < facts["time_total"] - 0.2
    return checks.found

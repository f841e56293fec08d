"""OpenSSL's `s_client`: resumption, names and versions, with the library that most clients have.

(sslyze only believes in resumption when a server gives the same ticket twice; this one gives a fresh one every time, as
RFC 8446 §C.4 advises.)
"""

from __future__ import annotations

import subprocess

from tests.suites.check import Check, Checks
from tests.suites.place import Place

REQUEST = "GET /echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def s_client(place: Place, *options: str, name: str = "localhost") -> str:
    """What it printed about a connection on which one request was sent."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{place.secure}", "-servername", name]
    command += ["-CAfile", str(place.authority), "-ign_eof", *options]
    done = subprocess.run(command, input=REQUEST, capture_output=True, text=True, timeout=20, errors="replace")
    return done.stdout + done.stderr


def run(place: Place) -> list[Check]:
    checks = Checks("OpenSSL")
    for version in ("1.2", "1.3"):
        option, session = f"-tls1_{version[-1]}", str(place.directory / f"session-{version}")
        with checks.feature(f"TLS {version}: verified and answered"):
            output = s_client(place, option, "-sess_out", session, "-verify_return_error")
            assert f"New, TLSv{version}" in output and "Verify return code: 0 (ok)" in output, output[-400:]
            assert output.count("HTTP/1.1 200") == 1, output[-400:]
        with checks.feature(f"TLS {version}: resumed"):
            output = s_client(place, option, "-sess_in", session)
            assert f"Reused, TLSv{version}" in output and "HTTP/1.1 200" in output, output[-400:]
    for version, option in {"1.0": "-tls1", "1.1": "-tls1_1"}.items():
        with checks.feature(f"TLS {version}: refused by an alert"):
            output = s_client(place, option, "-cipher", "ALL:@SECLEVEL=0")
            # protocol_version, or handshake_failure when what 1.2 requires is missed first.
            assert any(f"SSL alert number {n}" in output for n in (70, 40)) and "HTTP/1.1" not in output, output[-400:]
    with checks.feature("a name without a certificate: refused by an alert"):
        output = s_client(place, name="elsewhere.test")
        assert "SSL alert number 112" in output and "HTTP/1.1" not in output, output[-400:]
    with checks.feature("no common application protocol: refused by an alert"):
        output = s_client(place, "-alpn", "smtp")
        assert "SSL alert number 120" in output, output[-400:]
    with checks.feature("each curve and each signature of ECDSA"):
        for group in ("X25519", "P-256", "P-384"):
            output = s_client(place, "-groups", group, "-tls1_3")
            assert "HTTP/1.1 200" in output, f"{group}: {output[-300:]}"
    return checks.found

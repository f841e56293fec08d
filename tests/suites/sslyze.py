"""sslyze: no finding above info on a TLS entrypoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.suites.check import Check, Checks, output_of
from tests.suites.place import Place

#: Suites without forward secrecy or authenticated encryption, by a part of their names.
WEAK = ("_CBC_", "_RC4_", "_3DES_", "_NULL_", "_anon_", "_EXPORT_", "TLS_RSA_WITH_", "_MD5")
SCANS = (
    "--certinfo --sslv2 --sslv3 --tlsv1 --tlsv1_1 --tlsv1_2 --tlsv1_3 --compression --fallback --heartbleed"
    " --openssl_ccs --robot --reneg --elliptic_curves --early_data --ems"
).split()
OLD = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")


def run(place: Place) -> list[Check]:
    checks = Checks("sslyze")
    told = place.directory / "sslyze.json"
    found: dict[str, Any] = {}
    with checks.feature("scans"):
        command = [str(Path(sys.executable).parent / "sslyze"), *SCANS, f"--certinfo_ca_file={place.authority}"]
        output_of([*command, "--mozilla_config=disable", f"--json_out={told}", f"localhost:{place.secure}"], 90)
        (server,) = json.loads(told.read_text())["server_scan_results"]
        assert server["scan_status"] == "COMPLETED", server["scan_status"]
        found = server["scan_result"]

    def result(name: str) -> dict[str, Any]:
        scan = found[name]
        assert scan["status"] == "COMPLETED", f"{name}: {scan['status']} {scan.get('error_reason')}"
        answer: dict[str, Any] = scan["result"]
        return answer

    def suites(version: str) -> list[str]:
        return [s["cipher_suite"]["name"] for s in result(f"{version}_cipher_suites")["accepted_cipher_suites"]]

    with checks.feature("no version before TLS 1.2"):
        assert not any(suites(version) for version in OLD), {version: suites(version) for version in OLD}
    with checks.feature("TLS 1.2 and 1.3 with strong suites only"):
        spoken = suites("tls_1_2") + suites("tls_1_3")
        assert suites("tls_1_2") and suites("tls_1_3")
        assert not [name for name in spoken if any(part in name for part in WEAK)], spoken
    with checks.feature("certificate is complete and trusted"):
        (deployed,) = result("certificate_info")["certificate_deployments"]
        trusted = [v["was_validation_successful"] for v in deployed["path_validation_results"]]
        assert any(trusted) and deployed["received_chain_has_valid_order"], trusted
        assert not deployed["verified_chain_has_sha1_signature"]
    with checks.feature("no compression"):
        assert not result("tls_compression")["supports_compression"]
    with checks.feature("no Heartbleed, no CCS injection, no ROBOT"):
        assert not result("heartbleed")["is_vulnerable_to_heartbleed"]
        assert not result("openssl_ccs_injection")["is_vulnerable_to_ccs_injection"]
        assert result("robot")["robot_result"].startswith("NOT_VULNERABLE"), result("robot")
    with checks.feature("no renegotiation by the client"):
        renegotiation = result("session_renegotiation")
        assert not renegotiation["is_vulnerable_to_client_renegotiation_dos"]
        assert renegotiation["supports_secure_renegotiation"]
    with checks.feature("extended master secret; fallback prevented or impossible"):
        assert result("tls_extended_master_secret")["supports_ems_extension"]
        # RFC 7507 protects versions before 1.2 from each other; there are none.
        assert result("tls_fallback_scsv")["supports_fallback_scsv"] or not any(suites(v) for v in OLD)
    with checks.feature("no early data"):
        assert not result("tls_1_3_early_data")["supports_early_data"]
    with checks.feature("strong curves only"):
        curves = [curve["name"] for curve in result("elliptic_curves")["supported_curves"]]
        assert curves and all(
            name in ("X25519", "prime256v1", "secp256r1", "secp384r1", "secp521r1") for name in curves
        ), curves
    return checks.found

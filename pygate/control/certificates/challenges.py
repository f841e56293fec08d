"""Proofs of control over a host name: what the gateway shows while an authority looks (RFC 8555 §8, RFC 8737).

Proofs lie in the run directory as part of the material, so that a staged one is in every worker; they are removed when
the order is over, and all of them when the duty begins.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pygate.control.certificates import files, pem
from pygate.control.certificates.settings import CHALLENGES

HTTP_01 = "http-01"
TLS_ALPN_01 = "tls-alpn-01"
#: id-pe-acmeIdentifier.
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_LIFE = timedelta(days=7)


@dataclass(frozen=True)
class Proof:
    """What shows control over `host` for one order."""

    kind: str
    host: str
    token: str
    authorization: str


class Board:
    """The proofs shown at present."""

    def __init__(self, run_dir: Path) -> None:
        self._file = run_dir / CHALLENGES
        self._shown: dict[Proof, dict[str, str]] = {}

    def show(self, proofs: list[Proof]) -> None:
        """Adds proofs. Raises `OSError`."""
        for proof in proofs:
            self._shown[proof] = certificate(proof) if proof.kind == TLS_ALPN_01 else {}
        self._write()

    def remove(self, proofs: list[Proof]) -> None:
        """Takes proofs off. Raises `OSError`."""
        for proof in proofs:
            self._shown.pop(proof, None)
        self._write()

    def clear(self) -> None:
        """Takes off whatever an earlier process left. Raises `OSError`."""
        self._shown.clear()
        self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        if not self._shown:
            self._file.unlink(missing_ok=True)
            return
        files.private(self._file.parent)
        tokens = {p.token: p.authorization for p in self._shown if p.kind == HTTP_01}
        special = [shown for p, shown in self._shown.items() if p.kind == TLS_ALPN_01]
        value = {"challenges": tokens, "alpn_challenges": special}
        files.write(self._file, orjson.dumps(value), durable=False)


def certificate(proof: Proof) -> dict[str, str]:
    """The self-signed certificate that answers tls-alpn-01, as material (RFC 8737 §3)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    now = pem.now()
    digest = hashlib.sha256(proof.authorization.encode()).digest()
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(proof.host)]), critical=False)
        # An OCTET STRING of 32 bytes in the extension's own OCTET STRING.
        .add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, b"\x04\x20" + digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return {
        "name": proof.host,
        "source": f"ACME challenge for {proof.host}",
        "cert": pem.text([built]),
        "key": key_text(key),
        "ocsp": "",
    }


def key_text(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key as PEM (PKCS#8)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()

"""What is spoken to a gateway and behind it, and the certificate that all of them show.

TLS is the same for everybody: TLS 1.3 only, TLS_AES_128_GCM_SHA256, X25519, one ECDSA P-256 certificate for
`*.bench.test` and `localhost`. Servers are told so where they can be (Envoy's suites cannot be chosen), and every
generator offers nothing else.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SUITE = "TLS_AES_128_GCM_SHA256"
GROUP = "X25519"


@dataclass(frozen=True)
class Certificate:
    """PEM files: certificate, key, and both in one."""

    cert: Path
    key: Path
    both: Path

    @classmethod
    def make(cls, directory: Path) -> Certificate:
        """Writes a self-signed one, good for two days around now."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench.test")])
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        names = x509.SubjectAlternativeName([x509.DNSName("*.bench.test"), x509.DNSName("localhost")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(names, critical=False)
            .sign(key, hashes.SHA256())
        )
        found = cls(directory / "bench.crt", directory / "bench.key", directory / "bench.pem")
        cert = certificate.public_bytes(serialization.Encoding.PEM)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for path, content in ((found.cert, cert), (found.key, secret), (found.both, cert + secret)):
            path.touch(mode=0o600)
            path.write_bytes(content)
        return found


@dataclass(frozen=True)
class Shape:
    """Protocols on both legs. Without anything: HTTP/1.1 without TLS on both."""

    certificate: Certificate | None = None
    """Shown to clients; None: no TLS."""
    http2: bool = False
    """Clients speak HTTP/2: by ALPN under TLS, by prior knowledge without."""
    grpc: bool = False
    """The upstream speaks HTTP/2 by prior knowledge, calls have trailers."""
    websocket: bool = False
    """Clients upgrade."""


PLAIN = Shape()

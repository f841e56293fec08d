"""A certificate authority for tests: roots, leaves, OCSP responses, made in memory."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def cert_pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


@dataclass
class Leaf:
    certificate: x509.Certificate
    key: Key
    issuer: x509.Certificate

    @property
    def chain(self) -> bytes:
        return cert_pem(self.certificate, self.issuer)

    def write(self, directory: Path, name: str, mode: int = 0o600) -> None:
        """NAME.crt and NAME.key, as editors write them: a new file, renamed."""
        directory.mkdir(parents=True, exist_ok=True)
        for suffix, data in (("crt", self.chain), ("key", key_pem(self.key))):
            fresh = directory / f".{name}.{suffix}.new"
            fresh.write_bytes(data)
            fresh.chmod(mode if suffix == "key" else 0o644)
            fresh.rename(directory / f"{name}.{suffix}")


@dataclass
class Authority:
    """A root that issues directly."""

    name: str = "Test Root"
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(
        self,
        *names: str,
        days: float = 90,
        begun: float = 1,
        responder: str = "",
        key: Any = None,
        usage: Any = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> Leaf:
        """A leaf for DNS names and addresses that began `begun` days ago and ends in `days`."""
        key = key or new_key()
        now = datetime.now(UTC)
        sans: list[x509.GeneralName] = []
        for name in names:
            try:
                sans.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                sans.append(x509.DNSName(name))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=begun))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(sans), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if responder:
            location = x509.AccessDescription(
                AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(responder)
            )
            builder = builder.add_extension(x509.AuthorityInformationAccess([location]), critical=False)
        return Leaf(builder.sign(self.key, hashes.SHA256()), key, self.certificate)

    def respond(
        self,
        leaf: Leaf,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        since: timedelta = timedelta(hours=-1),
        until: timedelta | None = timedelta(days=4),
        by: Leaf | None = None,
    ) -> bytes:
        """An OCSP response (DER) about a leaf, signed by this authority, or by a delegate `by`."""
        now = datetime.now(UTC)
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        responder = by.certificate if by else self.certificate
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=leaf.certificate,
            issuer=leaf.issuer,
            algorithm=hashes.SHA1(),
            cert_status=status,
            this_update=now + since,
            next_update=None if until is None else now + until,
            revocation_time=now - timedelta(days=1) if revoked else None,
            revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder)
        if by is not None:
            builder = builder.certificates([by.certificate])
        key = by.key if by else self.key
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

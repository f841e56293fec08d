"""What PEM files hold: a certificate with its chain, its private key, bundles of roots.

Rules:

1. Only the blocks asked for go on; text around them and other blocks stay behind, so that a file with key and
   certificate in one never puts the key where a certificate belongs.
2. A message never quotes what a file holds.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[^\n]*\n(.*?)-----END \1-----", re.DOTALL)
#: Certificates sent in a handshake; more is a bundle that was taken for a chain.
MAX_CHAIN = 10
#: Private keys in one file of which the fitting one is looked for.
_MAX_KEYS = 4
_CURVES = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384"}


#: What the library raises for certificates that are not well-formed; it reads many fields only when asked for them.
MALFORMED = (
    ValueError,
    TypeError,
    OverflowError,
    LookupError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class Wrong(Exception):
    """A file that does not hold what it should. `expected` and `help` as in a `Problem`."""

    def __init__(self, message: str, expected: str | None = None, help: str | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.help = help


@dataclass(frozen=True)
class Facts:
    """What a certificate says of itself. Times in seconds since the epoch."""

    subject: str
    issuer: str
    #: Subject alternative names as text: DNS, IP, URI, mail.
    sans: tuple[str, ...]
    serial: str
    not_before: float
    not_after: float
    #: `rsa-2048`, `ecdsa-p256`, `ed25519`.
    key: str
    #: SHA-256 of the DER form, lower hex.
    fingerprint: str
    #: The OCSP responder it names.
    responder: str


def chain(data: bytes) -> list[x509.Certificate]:
    """The certificates of a file, in its order. Raises `Wrong`."""
    if b"-----BEGIN" not in data:
        form = "looks like DER" if data[:1] == b"\x30" else "holds no PEM block"
        raise Wrong(form, "a PEM file with the certificate first, then its intermediates")
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise Wrong("holds no certificate", "a PEM file with the certificate first, then its intermediates")
    try:
        found = x509.load_pem_x509_certificates(data)
    except MALFORMED:
        raise Wrong("holds a certificate that cannot be read", "a PEM file, unchanged since it was issued") from None
    if len(found) > MAX_CHAIN:
        raise Wrong(f"holds {len(found)} certificates", f"the certificate and its chain, at most {MAX_CHAIN}")
    return found


def key_for(data: bytes, leaf: x509.Certificate) -> str:
    """The private key of `leaf`, as its PEM block. Raises `Wrong`."""
    blocks = [m for m in _BLOCK.finditer(data) if m[1].endswith(b"PRIVATE KEY")]
    if not blocks:
        form = "looks like DER" if data[:1] == b"\x30" else "holds no private key"
        raise Wrong(form, "a PEM file with a private key (PKCS#8, PKCS#1 or SEC1)")
    for block in blocks[:_MAX_KEYS]:
        if block[1].startswith(b"ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block[2]:
            raise Wrong(
                "holds a key that is encrypted with a passphrase",
                "a key without passphrase, readable by the gateway's user only",
                "openssl pkey -in KEY -out PLAIN takes the passphrase off",
            )
        try:
            key = serialization.load_pem_private_key(block[0] + b"\n", None)
        except MALFORMED:
            raise Wrong(
                "holds a private key that cannot be read", "an RSA, ECDSA (P-256, P-384) or Ed25519 key"
            ) from None
        if key.public_key() == leaf.public_key():
            return block[0].decode("ascii", "replace") + "\n"
    raise Wrong("does not belong to the certificate", "the private key that the certificate was issued for")


def key_kind(certificate: x509.Certificate) -> str:
    """`rsa-2048` and the like. Raises `Wrong` for a key that TLS cannot use here."""
    try:
        key = certificate.public_key()
    except MALFORMED:
        raise Wrong("has a key of an unknown kind", "an RSA, ECDSA (P-256, P-384) or Ed25519 key") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise Wrong(f"has an RSA key of {key.key_size} bits", "2048 bits or more")
        return f"rsa-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    raise Wrong("has a key of an unknown kind", "an RSA, ECDSA (P-256, P-384) or Ed25519 key")


def facts(leaf: x509.Certificate) -> Facts:
    """What is told of a certificate. Raises `Wrong` when its key or its extensions cannot be read."""
    kind = key_kind(leaf)
    try:
        return Facts(
            leaf.subject.rfc4514_string(),
            _common_name(leaf.issuer),
            tuple(_sans(leaf)),
            f"{leaf.serial_number:x}",
            leaf.not_valid_before_utc.timestamp(),
            leaf.not_valid_after_utc.timestamp(),
            kind,
            leaf.fingerprint(hashes.SHA256()).hex(),
            _responder(leaf),
        )
    except MALFORMED:
        raise Wrong("holds a certificate with fields that cannot be read", "one as RFC 5280 describes it") from None


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` has signed `certificate`."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*MALFORMED, InvalidSignature):
        return False
    return True


def text(certificates: list[x509.Certificate]) -> str:
    """The certificates as PEM."""
    return "".join(c.public_bytes(serialization.Encoding.PEM).decode() for c in certificates)


def bundle(data: bytes, strict: bool = True) -> str:
    """The certificates of a bundle of roots as PEM; `strict`: each of them must be readable. Raises `Wrong`."""
    blocks = [m for m in _BLOCK.finditer(data) if m[1] == b"CERTIFICATE"]
    expected = "a PEM file with the certificates of the roots"
    if not blocks:
        raise Wrong("holds no certificate", expected)
    out = []
    for number, block in enumerate(blocks, 1):
        if strict:
            try:
                x509.load_pem_x509_certificate(block[0] + b"\n")
            except MALFORMED:
                raise Wrong(f"holds a certificate that cannot be read (number {number})", expected) from None
        out.append(block[0].decode("ascii", "replace"))
    return "\n".join([*out, ""])


def covers(san: str, host: str) -> bool:
    """Whether a name of a certificate covers a host name; a wildcard stands for one label (RFC 6125)."""
    san, host = san.lower().rstrip("."), host.lower().rstrip(".")
    if san.startswith("*."):
        return host.partition(".")[2] == san[2:] and not host.startswith(("*", "."))
    return san == host


def now() -> datetime:
    return datetime.now(UTC)


def _sans(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [_general_name(name.value) for name in names]


def _general_name(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return str(value)
    return value.rfc4514_string() if isinstance(value, x509.Name) else "(another name)"


def _responder(leaf: x509.Certificate) -> str:
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ""
    for item in access:
        location = item.access_location
        if item.access_method == AuthorityInformationAccessOID.OCSP and isinstance(
            location, x509.UniformResourceIdentifier
        ):
            return location.value
    return ""


def _common_name(name: x509.Name) -> str:
    for wanted in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        if found := name.get_attributes_for_oid(wanted):
            return str(found[0].value)
    return name.rfc4514_string()

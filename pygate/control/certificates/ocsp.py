"""OCSP (RFC 6960): asks about a certificate, and decides whether an answer may be stapled.

A response is stapled when it is about this very certificate, says `good`, is signed by the issuer or by a responder
the issuer has delegated (extended key usage OCSPSigning), and its time has come and is not over. One without
`nextUpdate` is not: nobody could say when to drop it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from pygate.control.certificates import pem

#: How far clocks may be apart.
SKEW = timedelta(minutes=5)


class Unusable(Exception):
    """A response that must not be stapled; the message says why."""


class Outdated(Unusable):
    """A response that is right but for its time, or that says something else than `good`."""


@dataclass(frozen=True)
class Staple:
    """A response that may be stapled until `until`; times in seconds since the epoch."""

    der: bytes
    since: float
    until: float


def request(leaf: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """The question, DER. SHA-1 names the issuer: RFC 5019 §2.1.1 has responders know nothing else."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())
    return builder.build().public_bytes(serialization.Encoding.DER)


def verify(der: bytes, leaf: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Staple:
    """The response as a staple. Raises `Unusable`, `Outdated`."""
    try:
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise Unusable(f"the responder answers {response.response_status.name.lower().replace('_', ' ')}")
        single = _about(response, leaf, issuer)
        signers = [issuer, *(c for c in response.certificates[:4] if _delegated(c, issuer, now))]
        signers = [c for c in signers if _is_responder(response, c)]
        if not signers:
            raise Unusable("it is signed by nobody the issuer has allowed to")
        if not any(_signed_by(response, c) for c in signers):
            raise Unusable("its signature is not right")
        status, since, until = single.certificate_status, single.this_update_utc, single.next_update_utc
    except pem.MALFORMED:
        raise Unusable("it is not an OCSP response (DER) that can be read") from None
    if status is not ocsp.OCSPCertStatus.GOOD:
        raise Outdated(f"it says that the certificate is {status.name.lower()}")
    if until is None:
        raise Unusable("it does not say how long it holds (nextUpdate)")
    if since > now + SKEW:
        raise Outdated(f"it holds from {since:%Y-%m-%d %H:%M} UTC on")
    if until <= now:
        raise Outdated(f"it held until {until:%Y-%m-%d %H:%M} UTC")
    return Staple(der, since.timestamp(), until.timestamp())


def _about(response: ocsp.OCSPResponse, leaf: x509.Certificate, issuer: x509.Certificate) -> ocsp.OCSPSingleResponse:
    for single in response.responses:
        if single.serial_number != leaf.serial_number or not isinstance(
            single.hash_algorithm, (hashes.SHA1, hashes.SHA256, hashes.SHA384, hashes.SHA512)
        ):
            continue
        asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, single.hash_algorithm).build()
        if (single.issuer_name_hash, single.issuer_key_hash) == (asked.issuer_name_hash, asked.issuer_key_hash):
            return single
    raise Unusable("it is about another certificate")


def _delegated(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    """RFC 6960 §4.2.2.2."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (*pem.MALFORMED, x509.ExtensionNotFound):
        return False
    in_time = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    return in_time and ExtendedKeyUsageOID.OCSP_SIGNING in usage and pem.issued_by(certificate, issuer)


def _is_responder(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    if response.responder_name is not None:
        return response.responder_name == certificate.subject
    return response.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


def _signed_by(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    key, signature, signed = certificate.public_key(), response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
            return True
        algorithm = response.signature_hash_algorithm
        if algorithm is None or algorithm.digest_size < 32:
            return False
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(algorithm))
        else:
            return False
    except InvalidSignature:
        return False
    return True

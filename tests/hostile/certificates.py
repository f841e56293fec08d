"""Certificates for one run: an authority, a server's, a client's. Made fresh, valid for a day, ECDSA P-256."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: Certificates by name: the host names each is for.
HOSTS = {
    "main": ["h", "localhost", "*.shared.example"],
    "other": ["other.example"],
    "strict": ["strict.example", "*.deep.example"],
}


class Certificates:
    """PEM files in `directory`, named as in the gateway's configuration."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._authority("another authority")
        self._issue("foreign", ["foreign.example"])
        authority = self._authority("hostile tests")
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        for name, hosts in {**HOSTS, "client": ["client.example"]}.items():
            self._issue(name, hosts)

    def _authority(self, name: str) -> x509.Certificate:
        """Whoever signs from now on."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._build(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None), [])

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, basic: x509.BasicConstraints, hosts: list[str]
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(basic, critical=True)
        )
        if hosts:
            names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _issue(self, name: str, hosts: list[str]) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        leaf = self._build(subject, key.public_key(), x509.BasicConstraints(ca=False, path_length=None), hosts)
        (self.directory / f"{name}.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        (self.directory / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def configuration(self) -> dict[str, Any]:
        """The `certificates` table of the gateway."""
        return {
            name: {"cert": str(self.directory / f"{name}.pem"), "key": str(self.directory / f"{name}.key")}
            for name in HOSTS
        }

    def client_context(self, alpn: list[str], client: str = "", newest: str = "") -> ssl.SSLContext:
        """What the test's clients check the gateway by; with `client` they show that certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False
        context.set_alpn_protocols(alpn)
        if client:
            context.load_cert_chain(self.directory / f"{client}.pem", self.directory / f"{client}.key")
        if newest:
            context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[newest]
        return context

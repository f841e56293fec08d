"""TLS for health checks: endpoints are asked as workers ask them, and an endpoint they would not trust is not healthy.

Rules: the service's `tls` table decides (roots, name, client certificate, pins); files are read anew for every check,
so that a rotation needs no restart. Contexts are made off the loop.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class EndpointTls:
    """How a service's endpoints are to be asked over TLS."""

    service: dict[str, Any]
    certificates: dict[str, Any] = field(default_factory=dict)
    base: Path = Path()

    def server_name(self, host: str) -> str:
        return str(self.service.get("server_name") or host)

    def context(self) -> ssl.SSLContext:
        """A client's context. Blocks on files; raises `OSError` (`ssl.SSLError` is one)."""
        ca = self.service.get("ca")
        context = ssl.create_default_context(cafile=str(self.base / ca) if ca else None)
        if self.service.get("min_version") == "1.3":
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self.service.get("insecure_skip_verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        own = self.certificates.get(str(self.service.get("certificate", "")), {})
        if own.get("cert") and own.get("key"):
            context.load_cert_chain(self.base / own["cert"], self.base / own["key"])
        return context

    def files(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Roots, client key and client chain, as PEM, where there are any. Blocks; raises `OSError`."""
        ca = self.service.get("ca")
        own = self.certificates.get(str(self.service.get("certificate", "")), {})
        both = bool(own.get("cert") and own.get("key"))
        return (
            (self.base / ca).read_bytes() if ca else None,
            (self.base / own["key"]).read_bytes() if both else None,
            (self.base / own["cert"]).read_bytes() if both else None,
        )

    def pinned(self, leaf: bytes) -> bool:
        """Whether the leaf (DER) has one of the keys that are pinned, if any are."""
        pins = set(self.service.get("pins", ()))
        if not pins:
            return True
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
        from cryptography.x509 import load_der_x509_certificate

        key = load_der_x509_certificate(leaf).public_key()
        digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
        return f"sha256/{base64.b64encode(digest).decode()}" in pins


def endpoints(config: dict[str, Any], base: Path) -> dict[str, EndpointTls]:
    """By service, for those that have endpoints behind TLS."""
    found = {}
    for name, service in config.get("services", {}).items():
        urls = [e if isinstance(e, str) else e.get("url", "") for e in service.get("endpoints", ())]
        if any(url.lower().startswith("https://") for url in urls):
            found[name] = EndpointTls(service.get("tls", {}), config.get("certificates", {}), base)
    return found

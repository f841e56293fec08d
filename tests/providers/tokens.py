"""Access tokens of Vertex: a service account's signed assertion is exchanged for one, which lives for a while.

The key pair is made on first use. An assertion must be RS256 by that key, for this token endpoint or Google's, from
this account, with a scope, valid now and for an hour at most.
"""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import parse_qsl

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.providers.wire import Call, Refused, Request, Whole

ACCOUNT = "gateway@simulated.iam.gserviceaccount.com"
PROJECT = "simulated"
GOOGLE = "https://oauth2.googleapis.com/token"
"""Google's own library names it whatever the token endpoint of the account is."""
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Tokens:
    def __init__(self, life: int) -> None:
        self.life = life
        self.issued: dict[str, float] = {}
        self._key: rsa.RSAPrivateKey | None = None

    @property
    def key(self) -> rsa.RSAPrivateKey:
        if self._key is None:
            self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return self._key

    def account(self, base: str) -> dict[str, str]:
        """What Google gives as a credentials file."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "simulated-1",
            "private_key": pem.decode(),
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": f"{base}/vertex/token",
        }

    def exchange(self, request: Request, base: str) -> Whole:
        form = dict(parse_qsl(request.body.decode("latin-1")))
        if request.method != "POST" or form.get("grant_type") != GRANT:
            return _denied("unsupported_grant_type", "wants a POST with a JWT bearer grant")
        try:
            self._verify(form.get("assertion", ""), f"{base}/vertex/token")
        except (ValueError, InvalidSignature) as error:
            return _denied("invalid_grant", f"Invalid JWT: {str(error) or 'signature'}")
        token = f"ya29.simulated-{len(self.issued) + 1}"
        self.issued[token] = time.time() + self.life
        return Whole.json({"access_token": token, "expires_in": self.life, "token_type": "Bearer"})

    def _verify(self, assertion: str, audience: str) -> None:
        parts = assertion.split(".")
        if len(parts) != 3:
            raise ValueError("not three parts")
        head, claims = (_part(part) for part in parts[:2])
        if head.get("alg") != "RS256":
            raise ValueError("algorithm")
        signature = _octets(parts[2])
        signed = f"{parts[0]}.{parts[1]}".encode()
        self.key.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        now = time.time()
        if claims.get("iss") != ACCOUNT or claims.get("aud") not in (audience, GOOGLE) or not claims.get("scope"):
            raise ValueError("issuer, audience or scope")
        issued, expires = float(claims.get("iat", 0)), float(claims.get("exp", 0))
        if not (issued - 60 <= now < expires and expires - issued <= 3600):
            raise ValueError("not valid now, or for more than an hour")

    def check(self, call: Call) -> None:
        if self.issued.get(call.key, 0) <= time.time():
            message = "the request had invalid authentication credentials; an OAuth 2 access token is expected"
            raise Refused(401, "authentication", message)


def _denied(error: str, description: str) -> Whole:
    return Whole.json({"error": error, "error_description": description}, status=400)


def _octets(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _part(part: str) -> dict[str, Any]:
    found = orjson.loads(_octets(part))
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found

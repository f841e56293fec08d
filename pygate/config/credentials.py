"""Credentials of policies and providers: references become what they lead to before a revision is compiled.

Rules:

1. The data plane reads neither environment nor files. `resolved` replaces every `env:NAME` and `file:PATH` under
   `policies.*.api_key.keys` (which hold the key itself) by `sha256:…`, and under `policies.*.basic_auth.users`
   (which hold a password's hash) by that hash. Those under `ai.providers.*.credentials` become the secret itself, which
   the data plane presents to the provider.
2. A reference that leads nowhere raises: a revision with a credential missing is not served.
3. The name of a revision is made from the references, so that it tells nothing about a secret.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import orjson

from pygate.config.secrets import SecretError, is_reference, resolve

#: Rounds of PBKDF2; the data plane takes at most 20,000, since a hash is computed on a worker's loop.
ROUNDS = 15_000


def resolved(config: bytes) -> bytes:
    """The configuration (JSON) with its policies' references replaced by hashes, its providers' by the secrets: for the
    compiler alone. Raises `SecretError`.
    """
    value = orjson.loads(config)
    for name, policy in value.get("policies", {}).items():
        _replace(policy.get("api_key", {}).get("keys", {}), hash_key, f"policies.{name}.api_key.keys")
        _replace(policy.get("basic_auth", {}).get("users", {}), str, f"policies.{name}.basic_auth.users")
    for name, provider in value.get("ai", {}).get("providers", {}).items():
        _replace(provider.get("credentials", {}), str, f"ai.providers.{name}.credentials")
    return orjson.dumps(value)


def _replace(table: dict[str, Any], hashed: Any, path: str) -> None:
    for name, text in table.items():
        if is_reference(text):
            try:
                table[name] = hashed(resolve(text))
            except SecretError as e:
                raise SecretError(f"{path}.{name}: {e}") from None


def hash_key(key: str) -> str:
    """An API key as `policies.*.api_key.keys` keeps it."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def hash_password(password: str, salt: bytes | None = None) -> str:
    """A password as `policies.*.basic_auth.users` keeps it, in PHC form."""
    salt = os.urandom(16) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ROUNDS)
    encoded = [base64.b64encode(part).decode().rstrip("=") for part in (salt, digest)]
    return f"$pbkdf2-sha256$i={ROUNDS}${encoded[0]}${encoded[1]}"

"""The key itself: `pk-`, six characters to recognise it by, 32 random bytes.

    pk-k7m2xq-3vJq…        43 characters of base64url after the second dash

Rules:

1. The random bytes are 256 bits from the operating system, so a plain SHA-256 keeps them; nothing can be guessed.
2. `Fresh` is the only thing that ever holds a key. Its `repr` does not show it.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

#: Without those that look alike.
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
_MARK = 6
PREFIX = "pk-"
PREFIX_LENGTH = len(PREFIX) + _MARK


@dataclass(frozen=True)
class Fresh:
    """A key that was just made."""

    plain: str = field(repr=False)

    @property
    def prefix(self) -> str:
        """What it is recognised by: not secret, and not enough to use it."""
        return self.plain[:PREFIX_LENGTH]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.plain.encode()).hexdigest()


def make() -> Fresh:
    """A new key."""
    mark = "".join(secrets.choice(_ALPHABET) for _ in range(_MARK))
    return Fresh(f"{PREFIX}{mark}-{secrets.token_urlsafe(32)}")


def make_id() -> str:
    """Names a key for good, over all rotations."""
    return f"key_{secrets.token_hex(8)}"


def recognised(text: str) -> str:
    """What may be passed on of a text that people name a key by: of a whole key, only what it is recognised by."""
    return text[:PREFIX_LENGTH] if text.startswith(PREFIX) else text

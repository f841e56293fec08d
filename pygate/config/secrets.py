"""Secrets are references: `env:NAME` or `file:PATH`.

Rules:

1. A reference is resolved by whoever uses the secret, as late as possible; the value is never stored in a
   configuration, a revision, a log line or an answer.
2. Where a key is named like a secret, only a reference may be shown; anything else is shown as `REDACTED`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

REDACTED = "(redacted)"
MAX_SECRET_FILE = 64 << 10

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")
_SECRET_KEY = re.compile(
    r"(?i)(^|[_-])(token|secret|password|passwd|hash|hashes|credential|credentials|hmac_key)s?$|authorization"
)
_SECRET_TABLES = re.compile(
    r"telemetry\.headers|policies\.[^.]+\.(api_key\.keys|basic_auth\.users)\."
    r"|ai\.providers\.[^.]+\.(credentials|headers)\."
)


class SecretError(Exception):
    """A reference that leads nowhere; the message names the reference, never a value."""


def is_reference(text: str) -> bool:
    return _REFERENCE.fullmatch(text) is not None


def resolve(reference: str) -> str:
    """The secret behind `env:NAME` or `file:PATH` (one trailing newline is dropped).

    Raises `SecretError` when it is not a reference, is not there, or is empty.
    """
    kind, _, name = reference.partition(":")
    if not is_reference(reference):
        raise SecretError("a secret must be given as `env:NAME` or `file:PATH`")
    if kind == "env":
        value = os.environ.get(name, "")
        if not value:
            raise SecretError(f"the environment variable `{name}` is not set or empty")
        return value
    try:
        with Path(name).open(encoding="utf-8") as file:
            value = file.read(MAX_SECRET_FILE)
    except (OSError, UnicodeDecodeError) as e:
        raise SecretError(f"`{reference}` cannot be read: {getattr(e, 'strerror', None) or 'not UTF-8'}") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise SecretError(f"`{reference}` is empty")
    return value


def is_secret(path: str) -> bool:
    """Whether the value at a dotted path is named like a secret."""
    key = path.rsplit(".", 1)[-1].split("[")[0]
    return _SECRET_KEY.search(key) is not None or _SECRET_TABLES.match(path) is not None


def redact(value: Any, path: str = "") -> Any:
    """A copy of a configuration value that may be shown."""
    if isinstance(value, dict):
        return {name: redact(item, f"{path}.{name}" if path else name) for name, item in value.items()}
    if isinstance(value, list):
        return [redact(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, str) and value and is_secret(path) and not is_reference(value):
        return REDACTED
    return value

"""What workers know of keys: one JSON file in the run directory, replaced in one step.

    {"version": 17, "keys": [{"id", "name", "sha256", "team", "project", "models", "expires", "priority",
      "max_output_tokens", "max_prompt_tokens", "limits": [{"scope", "kind", "window", "max"}]}]}

Rules:

1. The version comes first, so that it can be read without reading the rest.
2. Revoked and expired keys are left out. `limits` are the key's own, its team's and its project's.
3. A rotated key has an entry per secret that is accepted, each with its own `expires`: nothing has to be written when
   a secret retires.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    # Workers read snapshots: they have no use for a database.
    from pygate.ai.limits import Limit
    from pygate.ai.store import Key, Store

FILE = "keys.json"

_VERSION = re.compile(rb'\{"version":([0-9]{1,18}),')

Tuple = tuple[str, str, str]
"""Scope, kind and window: what a counter belongs to."""


def build(store: Store, now: int) -> bytes:
    """The snapshot of this moment. Raises `StoreError`."""
    version, keys, groups = store.everything()
    return orjson.dumps({"version": version, "keys": [entry for key in keys for entry in _entries(key, groups, now)]})


def version_of(data: bytes) -> int:
    """The version of a snapshot; 0 for what is none."""
    found = _VERSION.match(data)
    return int(found[1]) if found else 0


def counters(data: bytes) -> set[Tuple]:
    """Every counter that a snapshot's limits need; none for what is no snapshot."""
    with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
        keys = orjson.loads(data)["keys"]
        return {(limit["scope"], limit["kind"], limit["window"]) for key in keys for limit in key["limits"]}
    return set()


def limits_of(key: Key, groups: dict[str, tuple[Limit, ...]]) -> list[tuple[str, Limit]]:
    """Everything that holds for a key, with its scope: its own limits, its team's, its project's."""
    terms = key.terms
    found = [(f"key:{key.id}", limit) for limit in terms.limits]
    for scope in (f"team:{terms.team}", f"project:{terms.project}"):
        found += [(scope, limit) for limit in groups.get(scope, ())]
    return found


def read(path: Path) -> bytes:
    """The file as it is; empty when there is none."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def write(path: Path, data: bytes) -> None:
    """Replaces the file, mode 0600. Raises `OSError`."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _entries(key: Key, groups: dict[str, tuple[Limit, ...]], now: int) -> list[dict[str, Any]]:
    terms = key.terms
    if key.state(now) != "active":
        return []
    limits = [
        {"scope": scope, "kind": limit.kind, "window": limit.window, "max": limit.max}
        for scope, limit in limits_of(key, groups)
    ]
    return [
        {
            "id": key.id,
            "name": terms.name,
            "sha256": secret.sha256,
            "team": terms.team,
            "project": terms.project,
            "models": terms.models,
            "expires": min((end for end in (terms.expires, secret.retires) if end is not None), default=None),
            "priority": terms.priority,
            "max_output_tokens": terms.max_output_tokens,
            "max_prompt_tokens": terms.max_prompt_tokens,
            "limits": limits,
        }
        for secret in key.secrets
        if secret.retires is None or secret.retires > now
    ]

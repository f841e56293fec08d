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
    from pygate.ai.store import Store

FILE = "keys.json"

_VERSION = re.compile(rb'\{"version":([0-9]{1,18}),')

Tuple = tuple[str, str, str]
"""Scope, kind and window: what a counter belongs to."""


def compose(store: Store, now: int) -> tuple[bytes, set[Tuple]]:
    """The snapshot of this moment, and the counters its limits need. Raises `StoreError`."""
    from pygate.ai.store import ACCEPTED

    version, rows, limit_rows = store.accepted(now)
    limits: dict[str, list[dict[str, Any]]] = {}
    for scope, kind, window, most in limit_rows:
        limits.setdefault(scope, []).append({"scope": scope, "kind": kind, "window": window, "max": most})
    keys: list[dict[str, Any]] = []
    needed: set[str] = set()
    for *columns, retires in rows:
        key = dict(zip(ACCEPTED, columns, strict=True))
        scopes = (f"key:{key['id']}", f"team:{key['team']}", f"project:{key['project']}")
        key["limits"] = [limit for scope in scopes if scope in limits for limit in limits[scope]]
        needed.update(scopes)
        if key["models"] is not None:
            key["models"] = orjson.Fragment(key["models"])
        if retires is not None and (key["expires"] is None or retires < key["expires"]):
            key["expires"] = retires
        keys.append(key)
    counted = {(scope, limit["kind"], limit["window"]) for scope in needed for limit in limits.get(scope, ())}
    return orjson.dumps({"version": version, "keys": keys}), counted


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

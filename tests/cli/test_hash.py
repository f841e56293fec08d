"""Credentials: made by `pygate hash`, resolved from references, kept out of sight."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pygate.config.credentials import hash_password, resolved
from pygate.config.secrets import REDACTED, SecretError, redact


def hashed(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pygate.cli.main", "hash", *args]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_hashes_of_the_command_line() -> None:
    assert hashed("key", stdin="k1\n").stdout.strip() == "sha256:" + hashlib.sha256(b"k1").hexdigest()
    made = json.loads(hashed("key", "--new", "--json").stdout)
    assert made["hash"] == "sha256:" + hashlib.sha256(made["secret"].encode()).hexdigest()
    assert hashed("password", stdin="secret\n").stdout.startswith("$pbkdf2-sha256$i=15000$")
    assert hashed("password", stdin="\n").returncode == 2
    # The data plane's own test holds the same triple of password, salt and form.
    assert hash_password("secret", b"saltsalt").startswith("$pbkdf2-sha256$i=15000$c2FsdHNhbHQ$")


def test_references_become_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_KEY", "k1")
    stored = hash_password("secret")
    (tmp_path / "ann").write_text(stored + "\n")
    policies = {
        "a": {"api_key": {"keys": {"app": "env:APP_KEY", "other": "sha256:00"}}},
        "b": {"basic_auth": {"users": {"ann": f"file:{tmp_path}/ann"}}},
        "c": {"retry": {}},
    }
    out = json.loads(resolved(json.dumps({"policies": policies}).encode()))["policies"]
    assert out["a"]["api_key"]["keys"] == {"app": "sha256:" + hashlib.sha256(b"k1").hexdigest(), "other": "sha256:00"}
    assert out["b"]["basic_auth"]["users"] == {"ann": stored}
    monkeypatch.delenv("APP_KEY")
    with pytest.raises(SecretError, match="APP_KEY"):
        resolved(json.dumps({"policies": policies}).encode())


def test_hashes_are_not_shown() -> None:
    shown = redact({"policies": {"a": {"api_key": {"header": "x-k", "keys": {"app": "sha256:00", "b": "env:B"}}}}})
    assert shown["policies"]["a"]["api_key"] == {"header": "x-k", "keys": {"app": REDACTED, "b": "env:B"}}

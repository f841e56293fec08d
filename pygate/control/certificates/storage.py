"""What ACME leaves on disk, below the `dir` of an account:

    ACCOUNT-DIRECTORY/           one account at one server; DIRECTORY is a hash of the server's URL
        account.key              the account's private key
        account.json             its URL and contact
        lock                     held (flock) while a certificate is obtained
        certificates/NAME.pem    private key and chain in one file: they change together or not at all
        certificates/NAME.json   what was asked for; failures since then, and when to try again
        certificates/NAME.renew  somebody wants a new one now (`pygate cert renew`)

Directories are 0700, files 0600. Names of accounts and certificates are the user's and are escaped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from pygate.control.certificates import files


@dataclass
class Attempts:
    """How obtaining a certificate went since it last succeeded."""

    #: What was to be obtained: failures with other names say nothing.
    hosts: list[str] = field(default_factory=list)
    failures: int = 0
    #: Seconds since the epoch before which it is not tried again.
    not_before: float = 0.0
    error: str = ""
    #: The names that what is stored was ordered for; an authority may have added some of its own.
    obtained: list[str] = field(default_factory=list)


class Storage:
    """One account's directory. Nothing is made before something is written."""

    def __init__(self, directory: Path, account: str, server: str) -> None:
        self.path = directory / f"{_escaped(account)}-{hashlib.sha256(server.encode()).hexdigest()[:8]}"

    @property
    def account_key(self) -> Path:
        return self.path / "account.key"

    @property
    def account(self) -> Path:
        return self.path / "account.json"

    @property
    def certificates(self) -> Path:
        return self.path / "certificates"

    def certificate(self, name: str) -> Path:
        return self.certificates / f"{_escaped(name)}.pem"

    def prepare(self) -> None:
        """Makes the directories. Raises `OSError`."""
        files.private(self.path)
        files.private(self.certificates)

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether nobody else obtains certificates here; the lock is held meanwhile. Raises `OSError`."""
        self.prepare()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            ours = True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                ours = False
            yield ours
        finally:
            os.close(descriptor)

    def attempts(self, name: str) -> Attempts:
        """What is known of earlier attempts; nothing when the file is not there or not ours."""
        try:
            found = orjson.loads(files.read(self._attempts(name), 64 << 10)[0])
            return Attempts(
                [str(host) for host in found["hosts"]],
                int(found["failures"]),
                float(found["not_before"]),
                str(found["error"]),
                [str(host) for host in found["obtained"]],
            )
        except (files.Unreadable, ValueError, KeyError, TypeError):
            return Attempts()

    def note(self, name: str, attempts: Attempts) -> None:
        """Keeps what is known of attempts over restarts. Raises `OSError`."""
        self.prepare()
        files.write(self._attempts(name), orjson.dumps(asdict(attempts)))

    def wanted_now(self, name: str) -> bool:
        """Whether somebody asks for a new certificate."""
        return self._wish(name).exists()

    def want(self, name: str) -> None:
        """Asks for a new certificate, whatever failed before. Raises `OSError`."""
        self.prepare()
        files.write(self._wish(name), b"")

    def store(self, name: str, key: str, chain: str, hosts: list[str]) -> None:
        """Puts a new certificate in place; failures and wishes are forgotten. Raises `OSError`."""
        self.prepare()
        files.write(self.certificate(name), (key + chain).encode())
        self.settled(name)
        self.note(name, Attempts(hosts, obtained=hosts))

    def settled(self, name: str) -> None:
        """The wish for a new certificate has been heard."""
        self._wish(name).unlink(missing_ok=True)

    def _attempts(self, name: str) -> Path:
        return self.certificates / f"{_escaped(name)}.json"

    def _wish(self, name: str) -> Path:
        return self.certificates / f"{_escaped(name)}.renew"


def of(value: dict[str, Any], account: str) -> Storage:
    """The storage of an account of a configuration. `dir` is state, like `audit.dir`: relative to the working
    directory."""
    table = value["acme"][account]
    return Storage(Path(table.get("dir", "run/acme")), account, table["directory"])


def _escaped(name: str) -> str:
    text = quote(name, safe=" @+").replace(".", "%2E") if name.startswith(".") else quote(name, safe=" @+")
    return text if len(text) <= 120 else f"{text[:80]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"

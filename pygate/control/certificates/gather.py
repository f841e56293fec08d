"""Reads every certificate, key and bundle of roots that a configuration names, and says what is wrong with them.

Rules:

1. Paths are relative to the configuration's directory, like those of packs and plugins; ACME's `dir` holds state and is
   relative to the working directory, like `audit.dir`.
2. What a worker could not use is a problem. What it can use but somebody should know – expired, key readable by others,
   chain out of order, a stale OCSP response – is a warning: a restart must not fail because a date has passed.
3. A certificate that ACME has not obtained yet is `waiting`, not a problem: its names are refused until it is there.
4. Private keys are in `Entry.key` and in the material, nowhere else: no message, no `repr`, no stamp.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509

from pygate.config import providers
from pygate.config.problem import Problem
from pygate.config.source import Stamps
from pygate.control.certificates import files, ocsp, pem, storage
from pygate.control.certificates.settings import CHALLENGES, staple_file
from pygate.control.certificates.settings import problems as problems_of_settings

#: Certificates in one directory, and bytes of all material; beyond that a directory was mistaken for another.
MAX_IN_DIRECTORY = 5000
MAX_MATERIAL = 64 << 20

#: Where distributions keep the roots they trust, tried when OpenSSL's own default is not there.
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True)
class Entry:
    """One certificate as it is shipped."""

    #: Configured name, and the file it came from.
    name: str
    source: str
    #: Where the configuration names it.
    path: str
    chain: tuple[x509.Certificate, ...]
    facts: pem.Facts
    cert: str = field(repr=False)
    key: str = field(repr=False)
    staple: ocsp.Staple | None = None

    @property
    def expired(self) -> bool:
        return self.facts.not_after <= pem.now().timestamp()


@dataclass
class Gathered:
    """All that was read."""

    entries: list[Entry] = field(default_factory=list)
    #: PEM bundles by the path written in the configuration; `""`: the system's.
    roots: dict[str, str] = field(default_factory=dict)
    #: http-01: token → key authorization; tls-alpn-01: material of special certificates.
    challenges: dict[str, str] = field(default_factory=dict, repr=False)
    alpn_challenges: list[dict[str, str]] = field(default_factory=list, repr=False)
    #: Certificates that ACME has yet to obtain.
    waiting: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    #: What could not be read: (certificate, source), (certificate, "") for all of it, ("", path) for roots.
    failed: set[tuple[str, str]] = field(default_factory=set)
    #: Every file looked at, with its state just before, and directories whose members count.
    stamps: Stamps = field(default_factory=dict)
    directories: list[Path] = field(default_factory=list)

    def material(self) -> bytes:
        """The JSON that workers read: `core::tls::Material`."""
        return orjson.dumps(
            {
                "certificates": [_shipped(entry) for entry in self.entries],
                "roots": self.roots,
                "challenges": self.challenges,
                "alpn_challenges": self.alpn_challenges,
            },
            option=orjson.OPT_SORT_KEYS,
        )

    def next_expiry(self) -> float | None:
        """When the first staple must be dropped, in seconds since the epoch."""
        return min((e.staple.until for e in self.entries if e.staple), default=None)


def gather(config: dict[str, Any], base: Path, run_dir: Path | None = None) -> Gathered:
    """Reads what `config` (a value that has passed the schema) names. `run_dir`: where staples and challenges lie.

    Blocks; never raises for what files hold. Problems and warnings have configuration paths but no places.
    """
    return _Gatherer(config, base, run_dir).run()


def system_roots() -> Path | None:
    """The file with the roots this system trusts; the one `certifi` ships where the system has none."""
    defaults = ssl.get_default_verify_paths()
    for name in (os.environ.get("SSL_CERT_FILE"), defaults.cafile, *_SYSTEM_BUNDLES):
        if name and os.path.isfile(name):
            return Path(name)
    import certifi

    return Path(certifi.where())


def stamp(path: Path) -> tuple[int, int, int]:
    """The state of a file or directory; zeros when it is not there."""
    try:
        state = path.stat()
    except OSError:
        return (0, 0, 0)
    return (state.st_ino, state.st_size, state.st_mtime_ns)


class _Gatherer:
    def __init__(self, config: dict[str, Any], base: Path, run_dir: Path | None) -> None:
        self.config = config
        self.base = base
        self.run_dir = run_dir
        self.now = pem.now()
        self.found = Gathered()
        self.bytes = 0

    def run(self) -> Gathered:
        found = self.found
        found.problems += problems_of_settings(self.config)
        wrong = [p.path for p in found.problems]
        for name, table in sorted(self.config.get("certificates", {}).items()):
            before = len(found.problems)
            account = table.get("acme")
            if _within(wrong, f"certificates.{name}") or account and _within(wrong, f"acme.{account}"):
                found.failed.add((name, ""))
            elif table.get("dir"):
                self._directory(name, table)
            elif account:
                self._obtained(name, table)
            else:
                self._pair(name, table)
            if self.bytes > MAX_MATERIAL and len(found.problems) == before:
                limit = f"more than {MAX_MATERIAL >> 20} MiB of certificates"
                self._problem(f"certificates.{name}", name, "", pem.Wrong(limit, "fewer or smaller ones"))
                break
        for written, path in sorted(_bundles(self.config).items()):
            self._roots(written, path)
        if self._wants_system_roots():
            self._system_roots()
        self._challenges()
        found.entries.sort(key=lambda e: (e.name, e.source))
        return found

    # ---- certificates ----

    def _pair(self, name: str, table: dict[str, Any]) -> None:
        path = f"certificates.{name}"
        cert, key = self.base / table["cert"], self.base / table["key"]
        entry = self._entry(name, cert, key, (f"{path}.cert", f"{path}.key"), (table["cert"], table["key"]))
        if entry is None:
            return
        staple = None
        if table.get("ocsp") == "fetch":
            staple = self._fetched(entry)
        elif table.get("ocsp"):
            staple = self._stapled(entry, table["ocsp"])
        self._take(entry, staple)

    def _directory(self, name: str, table: dict[str, Any]) -> None:
        path, directory = f"certificates.{name}.dir", self.base / table["dir"]
        self.found.directories.append(directory)
        self.found.stamps[directory] = stamp(directory)
        try:
            members = sorted(p.name for p in directory.iterdir() if not p.name.startswith("."))
        except OSError as e:
            why = "does not exist" if isinstance(e, FileNotFoundError) else f"cannot be read: {e.strerror}"
            self._problem(path, name, "", pem.Wrong(f"`{table['dir']}` {why}", "a directory of certificates"))
            return
        known = set(members)
        stems = sorted(m[: -len(".key")] for m in members if m.endswith(".key"))
        pairs = [(s, next((f"{s}{end}" for end in (".crt", ".pem") if f"{s}{end}" in known), None)) for s in stems]
        chosen = [(stem, cert) for stem, cert in pairs if cert is not None]
        if len(chosen) > MAX_IN_DIRECTORY:
            limit = f"`{table['dir']}` holds {len(chosen)} certificates"
            self._problem(path, name, "", pem.Wrong(limit, f"at most {MAX_IN_DIRECTORY}"))
            return
        if not chosen:
            message = f"`{table['dir']}` holds no certificate with its key"
            self._warn(path, message, "`NAME.crt` or `NAME.pem` with `NAME.key` beside it")
        for stem, file in chosen:
            shown = (f"{table['dir']}/{file}", f"{table['dir']}/{stem}.key")
            entry = self._entry(name, directory / file, directory / f"{stem}.key", (path, path), shown)
            if entry is not None:
                self._take(entry, self._fetched(entry) if table.get("ocsp") == "fetch" else None)

    def _obtained(self, name: str, table: dict[str, Any]) -> None:
        file = storage.of(self.config, table["acme"]).certificate(name)
        self._stamp(file)
        if not file.exists():
            self.found.waiting.append(name)
            return
        path = f"certificates.{name}.acme"
        problems = len(self.found.problems)
        entry = self._entry(name, file, file, (path, path), (str(file), str(file)))
        if entry is None:
            # Ours, and broken: a new one is obtained.
            broken = self.found.problems.pop() if len(self.found.problems) > problems else None
            if broken is not None:
                self._warn(path, broken.message + "; it is obtained anew", None)
            self.found.waiting.append(name)
            return
        self._take(entry, self._fetched(entry) if table.get("ocsp") == "fetch" else None)

    def _entry(self, name: str, cert: Path, key: Path, paths: tuple[str, str], shown: tuple[str, str]) -> Entry | None:
        """A certificate with its key; `paths` and `shown` name both in the configuration and in messages."""
        source = str(cert)
        path, what = paths[0], shown[0]
        try:
            data = self._read(cert, files.MAX_PEM)[0]
            chain = pem.chain(data)
            facts = pem.facts(chain[0])
            path, what = paths[1], shown[1]
            data, mode = self._read(key, files.MAX_PEM)
            text = pem.key_for(data, chain[0])
        except files.Unreadable as e:
            self._problem(path, name, source, pem.Wrong(f"`{what}` {e}", "a PEM file that the gateway can read"))
            return None
        except pem.Wrong as e:
            self._problem(path, name, source, pem.Wrong(f"`{what}` {e}", e.expected, e.help))
            return None
        if mode & 0o077:
            self._warn(
                paths[1],
                f"the private key `{shown[1]}` can be read or written by other users (mode {mode:04o})",
                "mode 0600, owned by the gateway's user",
            )
        entry = Entry(name, source, paths[0], tuple(chain), facts, pem.text(chain), text)
        self._doubts(entry, shown[0])
        return entry

    def _doubts(self, entry: Entry, shown: str) -> None:
        now, facts = self.now.timestamp(), entry.facts
        if facts.not_after <= now:
            day = entry.chain[0].not_valid_after_utc
            self._warn(entry.path, f"`{shown}` expired on {day:%Y-%m-%d %H:%M} UTC", "a certificate that is valid now")
        elif facts.not_before > now:
            day = entry.chain[0].not_valid_before_utc
            self._warn(entry.path, f"`{shown}` is valid from {day:%Y-%m-%d %H:%M} UTC on", "one that is valid now")
        for lower, upper in zip(entry.chain, entry.chain[1:], strict=False):
            if not pem.issued_by(lower, upper):
                self._warn(
                    entry.path,
                    f"`{shown}` is no chain: a certificate is not followed by the one that has signed it",
                    "the leaf first, then the intermediates, each signed by the next",
                )
                break

    def _take(self, entry: Entry, staple: ocsp.Staple | None) -> None:
        self.bytes += len(entry.cert) + len(entry.key)
        self.found.entries.append(
            Entry(entry.name, entry.source, entry.path, entry.chain, entry.facts, entry.cert, entry.key, staple)
        )

    # ---- OCSP ----

    def _stapled(self, entry: Entry, written: str) -> ocsp.Staple | None:
        """A response from a file."""
        path = f"certificates.{entry.name}.ocsp"
        try:
            der = self._read(self.base / written, files.MAX_OCSP)[0]
            if len(entry.chain) < 2:
                raise ocsp.Unusable("it cannot be checked: the certificate's file lacks its issuer")
            return ocsp.verify(der, entry.chain[0], entry.chain[1], self.now)
        except files.Unreadable as e:
            self._problem(path, entry.name, entry.source, pem.Wrong(f"`{written}` {e}", "an OCSP response (DER)"))
        except ocsp.Outdated as e:
            self._warn(path, f"the OCSP response `{written}` is not stapled: {e}", "a response that is good and fresh")
        except ocsp.Unusable as e:
            message = f"the OCSP response `{written}` cannot be stapled: {e}"
            self._problem(path, entry.name, entry.source, pem.Wrong(message, "the responder's answer for it (DER)"))
        return None

    def _fetched(self, entry: Entry) -> ocsp.Staple | None:
        """The response that the duty has fetched, as long as it is good."""
        path = f"certificates.{entry.name}.ocsp"
        if not entry.facts.responder:
            self._warn(path, f"`{entry.source}` names no OCSP responder: nothing is stapled", None)
        elif len(entry.chain) < 2:
            self._warn(path, f"`{entry.source}` lacks its issuer: no OCSP response can be checked", "the whole chain")
        elif self.run_dir is not None:
            try:
                der = files.read(staple_file(self.run_dir, entry.facts.fingerprint), files.MAX_OCSP)[0]
                return ocsp.verify(der, entry.chain[0], entry.chain[1], self.now)
            except (files.Unreadable, ocsp.Unusable):
                return None
        return None

    # ---- roots ----

    def _roots(self, written: str, path: str) -> None:
        try:
            self.found.roots[written] = pem.bundle(self._read(self.base / written, files.MAX_BUNDLE)[0])
        except (files.Unreadable, pem.Wrong) as e:
            self._problem(path, "", written, pem.Wrong(f"`{written}` {e}", "a PEM file with the roots' certificates"))

    def _wants_system_roots(self) -> bool:
        for service in self.config.get("services", {}).values():
            tls = service.get("tls", {})
            urls = (e if isinstance(e, str) else e.get("url", "") for e in service.get("endpoints", []))
            if not tls.get("ca") and any(url.lower().startswith("https:") for url in urls):
                return True
        return providers.wants_system_roots(self.config)

    def _system_roots(self) -> None:
        file = system_roots()
        path = "services"
        help_text = "install the package ca-certificates, or name a bundle in services.NAME.tls.ca"
        if file is None:
            message = "no bundle of roots is found on this system, and `https://` endpoints need one"
            self._problem(path, "", "", pem.Wrong(message, help=help_text))
            return
        try:
            self.found.roots[""] = pem.bundle(self._read(file, files.MAX_BUNDLE)[0], strict=False)
        except (files.Unreadable, pem.Wrong) as e:
            self._problem(path, "", "", pem.Wrong(f"the system's roots `{file}`: {e}", help=help_text))

    # ---- challenges ----

    def _challenges(self) -> None:
        if self.run_dir is None:
            return
        try:
            value = orjson.loads(files.read(self.run_dir / CHALLENGES, files.MAX_BUNDLE)[0])
            self.found.challenges, self.found.alpn_challenges = value["challenges"], value["alpn_challenges"]
        except (files.Unreadable, ValueError, KeyError, TypeError):
            return

    # ---- reading and telling ----

    def _stamp(self, path: Path) -> None:
        self.found.stamps[path] = stamp(path)

    def _read(self, path: Path, most: int) -> tuple[bytes, int]:
        self._stamp(path)
        return files.read(path, most)

    def _problem(self, path: str, name: str, source: str, wrong: pem.Wrong) -> None:
        self.found.failed.add((name, source))
        self.found.problems.append(Problem(path, str(wrong), expected=wrong.expected, help=wrong.help))

    def _warn(self, path: str, message: str, expected: str | None) -> None:
        self.found.warnings.append(Problem(path, message, expected=expected))


def _within(paths: list[str], outer: str) -> bool:
    """Whether any of the paths is `outer` or lies in it."""
    return any(path == outer or path.startswith((f"{outer}.", f"{outer}[")) for path in paths)


def _bundles(config: dict[str, Any]) -> dict[str, str]:
    """Paths of bundles as written, with the first place that names each."""
    found: dict[str, str] = {}
    for written, path in _bundle_mentions(config):
        if written:
            found.setdefault(written, path)
    return found


def _bundle_mentions(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, entrypoint in config.get("entrypoints", {}).items():
        tls = entrypoint.get("tls") or {}
        path = f"entrypoints.{name}.tls"
        yield tls.get("options", {}).get("client_ca") or "", f"{path}.options.client_ca"
        for host, options in tls.get("hosts", {}).items():
            yield options.get("client_ca") or "", f"{path}.hosts.{host}.client_ca"
    for name, service in config.get("services", {}).items():
        yield service.get("tls", {}).get("ca", ""), f"services.{name}.tls.ca"


def _shipped(entry: Entry) -> dict[str, str]:
    return {
        "name": entry.name,
        "source": entry.source,
        "cert": entry.cert,
        "key": entry.key,
        "ocsp": base64.b64encode(entry.staple.der).decode() if entry.staple else "",
    }

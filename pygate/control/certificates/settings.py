"""What can be said of `certificates` and `acme` without reading a file, and where their files lie in the run directory.

The schema knows the keys; this knows which belong together.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pygate.config import providers
from pygate.config.problem import Problem
from pygate.config.schema import nearest
from pygate.config.secrets import SecretError, resolve

#: Below the run directory.
DIRECTORY = "certificates"
CHALLENGES = "certificates/challenges.json"

#: Names in one certificate; Let's Encrypt takes as many.
MAX_HOSTS = 100
_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")


def staple_file(run_dir: Path, fingerprint: str) -> Path:
    """Where the fetched OCSP response of a certificate lies."""
    return run_dir / DIRECTORY / "ocsp" / f"{fingerprint}.der"


def concerned(config: dict[str, Any]) -> bool:
    """Whether a configuration has anything to do with certificates."""
    if config.get("certificates") or config.get("acme"):
        return True
    if any("tls" in entrypoint for entrypoint in config.get("entrypoints", {}).values()):
        return True
    for service in config.get("services", {}).values():
        urls = (e if isinstance(e, str) else e.get("url", "") for e in service.get("endpoints", []))
        if "tls" in service or any(url.lower().startswith("https:") for url in urls):
            return True
    return providers.wants_system_roots(config)


def problems(config: dict[str, Any]) -> list[Problem]:
    """Settings that cannot be; without places. `config` has passed the schema."""
    accounts = config.get("acme", {})
    found = [p for name, account in accounts.items() for p in _account(f"acme.{name}", account)]
    for name, table in config.get("certificates", {}).items():
        found += _certificate(f"certificates.{name}", table, accounts)
    return found


def _certificate(path: str, table: dict[str, Any], accounts: dict[str, Any]) -> Iterator[Problem]:
    forms = "`cert` and `key`, or `dir`, or `acme` and `hosts`"
    kinds = [kind for kind, keys in _KINDS.items() if any(table.get(key) for key in keys)]
    if len(kinds) != 1:
        got = "both " + " and ".join(f"`{k}`" for k in kinds) if kinds else "none of them"
        yield Problem(path, f"`{path}` must say where the certificate comes from", forms, got, at_key=True)
        return
    kind = kinds[0]
    for key in _KINDS[kind]:
        if not table.get(key):
            other = next(k for k in _KINDS[kind] if table.get(k))
            yield Problem(path, f"`{path}` has `{other}` but no `{key}`", forms, at_key=True)
    if kind != "cert" and table.get("ocsp") not in (None, "", "fetch"):
        yield Problem(f"{path}.ocsp", "a file with an OCSP response goes with one certificate", '`ocsp = "fetch"`')
    if kind != "acme":
        return
    account = table.get("acme", "")
    if account and account not in accounts:
        message = f"there is no ACME account `{account}`"
        known = sorted(accounts)
        yield Problem(f"{path}.acme", message, f"a table [acme.{account}]", nearest=nearest(account, known))
    hosts = table.get("hosts", [])
    if len(hosts) > MAX_HOSTS:
        yield Problem(f"{path}.hosts", f"{len(hosts)} names in one certificate", f"at most {MAX_HOSTS}")
    for index, host in enumerate(hosts):
        where = f"{path}.hosts[{index}]"
        if host.startswith("*."):
            message = f"`{host}`: an authority gives out wildcards for the DNS challenge only"
            yield Problem(where, message, "single names", help="list the names, or use a certificate from files")
        elif not _HOST.fullmatch(host):
            yield Problem(where, f"`{host}` is not a host name", 'such as "shop.example.com", in lower case')
        elif hosts.index(host) != index:
            yield Problem(where, f"`{host}` is listed twice", "each name once")


_KINDS = {"cert": ("cert", "key"), "dir": ("dir",), "acme": ("acme", "hosts")}


def _account(path: str, account: dict[str, Any]) -> Iterator[Problem]:
    url = urlsplit(account["directory"])
    if url.scheme != "https" or not url.hostname or url.username is not None:
        message = f"`{account['directory']}` is not the URL of an ACME directory"
        yield Problem(f"{path}.directory", message, "a URL that begins with https://")
    if not account.get("agree_to_terms", False):
        where = f"{path}.agree_to_terms" if "agree_to_terms" in account else path
        yield Problem(
            where,
            f"`{path}`: the authority's terms of service are not agreed to",
            "agree_to_terms = true",
            help="read the terms that the directory names, then say so; nothing is asked of the authority before",
            at_key=True,
        )
    email = account.get("email", "")
    if email and not re.fullmatch(r"[^@\s,<>]+@[^@\s,<>]+", email):
        yield Problem(f"{path}.email", f"`{email}` is not a mail address", 'such as "ops@example.com"')
    yield from _binding(path, account)


def _binding(path: str, account: dict[str, Any]) -> Iterator[Problem]:
    """External account binding (RFC 8555 §7.3.4)."""
    identifier, secret = account.get("eab_key_id", ""), account.get("eab_hmac_key", "")
    if bool(identifier) != bool(secret):
        missing, there = ("eab_hmac_key", "eab_key_id") if identifier else ("eab_key_id", "eab_hmac_key")
        yield Problem(f"{path}.{there}", f"`{path}` has `{there}` but no `{missing}`", "both or none", at_key=True)
    if not secret:
        return
    where = f"{path}.eab_hmac_key"
    try:
        binding_key(secret)
    except SecretError as e:
        yield Problem(where, f"`{where}`: {e}", "a reference to the key in base64url")


def binding_key(reference: str) -> str:
    """The HMAC key behind a reference, base64url. Raises `SecretError`."""
    text = resolve(reference).strip().rstrip("=").replace("+", "-").replace("/", "_")
    try:
        if not base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True):
            raise SecretError(f"`{reference}` is empty")
    except (binascii.Error, ValueError):
        raise SecretError(f"what `{reference}` holds is not base64url") from None
    return text

"""Every certificate of a configuration and who uses it, as `pygate cert list` shows it. Never a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pygate.config.units import seconds
from pygate.control.certificates import pem, schedule, storage
from pygate.control.certificates.gather import Entry, Gathered


@dataclass
class Usage:
    """Who shows a certificate, and under which names it is asked for."""

    entrypoints: list[str] = field(default_factory=list)
    #: Entrypoints that show it when no other covers the name.
    default_of: list[str] = field(default_factory=list)
    #: Host names of routes and TLS options that it covers.
    hosts: list[str] = field(default_factory=list)
    #: Services whose endpoints it is shown to.
    services: list[str] = field(default_factory=list)


@dataclass
class Item:
    """One line of the inventory."""

    name: str
    #: `file`, `directory` or `acme`, and the file.
    kind: str
    source: str
    usage: Usage
    facts: pem.Facts | None = None
    #: `""`: none wanted.
    ocsp: str = ""
    #: When it is renewed (ACME), or tried again; seconds since the epoch.
    next: float | None = None
    #: Why there is none, or none that is newer.
    error: str = ""

    def as_dict(self, now: float) -> dict[str, Any]:
        """The `--json` form: every key always there, `null` where unknown."""
        facts = self.facts
        return {
            "name": self.name,
            "kind": self.kind,
            "source": self.source,
            "sans": list(facts.sans) if facts else [],
            "subject": facts.subject if facts else None,
            "issuer": facts.issuer if facts else None,
            "serial": facts.serial if facts else None,
            "fingerprint": facts.fingerprint if facts else None,
            "key": facts.key if facts else None,
            "not_before": facts.not_before if facts else None,
            "not_after": facts.not_after if facts else None,
            "days_left": round((facts.not_after - now) / 86400, 1) if facts else None,
            "ocsp": self.ocsp or None,
            "next": self.next,
            "error": self.error or None,
            "entrypoints": self.usage.entrypoints,
            "default_of": self.usage.default_of,
            "hosts": self.usage.hosts,
            "services": self.usage.services,
        }


def inventory(config: dict[str, Any], gathered: Gathered) -> list[Item]:
    """Everything under `certificates`, what is not there yet or cannot be used included. Blocks on files."""
    items = [_item(config, entry) for entry in gathered.entries]
    for name, table in config.get("certificates", {}).items():
        if any(item.name == name for item in items):
            continue
        source = table.get("cert") or table.get("dir") or ""
        item = Item(name, _kind(table), source, _usage(config, name, tuple(table.get("hosts", []))))
        if name in gathered.waiting:
            attempts = storage.of(config, table["acme"]).attempts(name)
            item.source = str(storage.of(config, table["acme"]).certificate(name))
            item.error = attempts.error or "not obtained yet"
            item.next = attempts.not_before or None
        else:
            wrong = [p.message for p in gathered.problems if f"{p.path}.".startswith(f"certificates.{name}.")]
            item.error = wrong[0] if wrong else "holds no certificate"
        items.append(item)
    return sorted(items, key=lambda i: (i.name, i.source))


def _item(config: dict[str, Any], entry: Entry) -> Item:
    table = config["certificates"][entry.name]
    item = Item(entry.name, _kind(table), entry.source, _usage(config, entry.name, entry.facts.sans), entry.facts)
    if table.get("ocsp"):
        item.ocsp = "good" if entry.staple else "none"
    if item.kind == "acme":
        facts = entry.facts
        before = seconds(config["acme"][table["acme"]].get("renew_before", "30d"))
        item.next = schedule.due(facts.not_before, facts.not_after, before, facts.fingerprint)
        attempts = storage.of(config, table["acme"]).attempts(entry.name)
        if attempts.failures:
            item.error, item.next = attempts.error, attempts.not_before
    return item


def _kind(table: dict[str, Any]) -> str:
    return "acme" if table.get("acme") else "directory" if table.get("dir") else "file"


def _usage(config: dict[str, Any], name: str, sans: tuple[str, ...]) -> Usage:
    usage = Usage()
    for entrypoint, settings in config.get("entrypoints", {}).items():
        tls = settings.get("tls")
        if tls is None:
            continue
        chosen = tls.get("certificates", [])
        if not chosen or name in chosen or tls.get("default_certificate") == name:
            usage.entrypoints.append(entrypoint)
        if tls.get("default_certificate") == name:
            usage.default_of.append(entrypoint)
    if usage.entrypoints:
        asked = sorted(set(_hosts(config)))
        usage.hosts = [host for host in asked if any(pem.covers(san, host) or san.lower() == host for san in sans)]
    for service, settings in config.get("services", {}).items():
        if settings.get("tls", {}).get("certificate") == name:
            usage.services.append(service)
    return usage


def _hosts(config: dict[str, Any]) -> Iterator[str]:
    """Host names that clients will ask for, as far as the configuration tells."""
    for entrypoint in config.get("entrypoints", {}).values():
        yield from (host.lower() for host in (entrypoint.get("tls") or {}).get("hosts", {}))
    for kind, key in (("routes", "host"), ("tcp_routes", "sni")):
        for route in config.get(kind, []):
            matches = route.get("match", {})
            hosts = matches.get(key, []) if isinstance(matches, dict) else []
            yield from (host.lower() for host in ([hosts] if isinstance(hosts, str) else hosts))


def load(config: dict[str, Any], base: Path, run_dir: Path) -> tuple[Gathered, list[Item]]:
    """Gathers and lists."""
    from pygate.control.certificates.gather import gather

    gathered = gather(config, base, run_dir)
    return gathered, inventory(config, gathered)

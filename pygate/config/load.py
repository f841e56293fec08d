"""From files to a checked configuration: read, merge, check the shape, compile, name the revision.

A `Loaded` is complete: its JSON is what workers compile, its revision is the name of everything that decides
an answer. Problems of all stages that can run are reported together; the compiler only sees a configuration
of the right shape.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pygate import _core
from pygate.config import providers, schema
from pygate.config.address import EXPECTED, Address
from pygate.config.problem import ConfigError, Place, Problem
from pygate.config.secrets import is_reference
from pygate.config.source import Source, Stamps, read, stamps
from pygate.guard import packs as packfiles
from pygate.guard import shipping
from pygate.guard.packs import PackFile


@dataclass
class Loaded:
    """A configuration as read. Usable when `problems` is empty."""

    #: Canonical JSON of the merged configuration: sorted keys, no white space, references unresolved.
    json: bytes
    #: First 12 hex digits of the SHA-256 of the canonical form, rule packs included.
    revision: str
    #: Every file that was read: configuration, includes, packs.
    files: list[Path]
    #: Directories in which a new file would change the configuration.
    directories: list[Path]
    problems: list[Problem]
    #: The merged configuration, with what is known from elsewhere (prices of models) filled in.
    value: dict[str, Any] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)
    #: State of the files when they were read.
    stamps: Stamps = field(default_factory=dict)
    #: The rule packs that routes use, as JSON; empty when they use none.
    packs: bytes = b""
    #: Source of every plugin that is a file, by plugin name.
    plugins: dict[str, bytes] = field(default_factory=dict)
    #: Where everything stands, for problems found later.
    source: Source = field(default_factory=Source, repr=False)
    #: What stops nobody, but somebody should know.
    warnings: list[Problem] = field(default_factory=list)

    def ensure(self) -> Loaded:
        """Itself, or `ConfigError` with all problems."""
        if self.problems:
            raise ConfigError(self.problems)
        return self

    @property
    def base(self) -> Path:
        """The directory that paths in the configuration are relative to."""
        return self.files[0].parent if self.files else Path()

    def locate(self, problem: Problem) -> Problem:
        """Fills in where a problem stands."""
        return self.source.locate(problem)

    def write(self, directory: Path) -> None:
        """Writes what workers compile into an empty directory. Slow where it has rule packs."""
        (directory / "config.json").write_bytes(self.json)
        for name, text in self.plugins.items():
            (directory / "plugins").mkdir(exist_ok=True)
            (directory / "plugins" / f"{name}.py").write_bytes(text)
        if self.packs:
            shipping.ship(directory, self.packs, self.value.get("guard", {}), directory.parent.parent / "cache")

    def setting(self, *path: str) -> Any:
        """The value at a path of keys, or its default from the schema (`setting("workers", "count")`)."""
        value: Any = self.value
        for key in path:
            if not isinstance(value, dict) or key not in value:
                return _default(path)
            value = value[key]
        return value


def load(path: str | Path) -> Loaded:
    """Loads one file or a directory of `*.toml` files. Problems are in the result, not raised."""
    source = read(Path(path))
    if not any(p.message.startswith("not TOML") for p in source.problems):
        source.problems += schema.check(source.value)
    source.problems += _duplicates(source)
    source.problems += _literal_secrets(source)
    source.problems += _addresses(source)
    # Before the revision gets its name: prices are a part of it.
    warnings = [] if source.problems else providers.fill_prices(source.value)
    canonical = orjson.dumps(_finite(source.value), option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    packs, plugins = b"", {}
    if not source.problems:
        packs, plugins = _packs(source), _plugins(source)
        found = _compile(canonical, packs, source.value.get("guard", {}).get("shadow", []) if packs else [])
        # Without its packs no route's guard compiles; why there are none is said already.
        source.problems += [p for p in found if not (source.problems and ".guard." in p.path)]
    for problem in (*source.problems, *warnings):
        source.locate(problem)
    problems = sorted(source.problems, key=lambda p: _order(source, p.place))
    parts = [canonical, packs, *(part for name in sorted(plugins) for part in (name.encode(), plugins[name]))]
    revision = hashlib.sha256(b"\0".join(parts) if plugins else canonical + packs).hexdigest()[:12]
    return Loaded(
        canonical,
        revision,
        source.files,
        source.directories,
        problems,
        source.value,
        source.texts,
        source.stamps,
        packs,
        plugins,
        source,
        sorted(warnings, key=lambda p: _order(source, p.place)),
    )


def _packs(source: Source) -> bytes:
    """The rule packs that routes use, as JSON; what is wrong with them goes to the source's problems."""
    directories = [source.files[0].parent / name for name in source.value.get("guard", {}).get("packs", [])]
    found: dict[str, PackFile] = {}
    for name, path in shipping.gather(source.value):
        if name in found:
            continue
        try:
            file = packfiles.find(name, directories)
        except ConfigError as e:
            for problem in e.problems:
                problem.path = path
            source.problems += e.problems
            continue
        source.stamps |= stamps([file], [])
        source.files.append(file)
        source.stamps |= stamps([file], [])
        found[name] = pack = packfiles.read(file)
        source.texts[file] = pack.text
        source.problems += pack.problems
    if source.problems or not found:
        return b""
    packs = [found[name] for name in sorted(found)]
    try:
        _core.Ruleset(packfiles.to_json(packs), "rust", [])
    except _core.PackError as e:
        source.problems += [packfiles.located(packs, problem) for problem in e.args[0]]
        return b""
    return packfiles.to_json(packs)


def _plugins(source: Source) -> dict[str, bytes]:
    """The plugins that are files: they are part of the revision, and watched."""
    found: dict[str, bytes] = {}
    for name, plugin in source.value.get("plugins", {}).items():
        where = plugin["load"].rpartition(":")[0]
        if not where.endswith(".py"):
            continue
        file = source.files[0].parent / where
        try:
            source.stamps |= stamps([file], [])
            found[name] = file.read_bytes()
        except OSError as e:
            message = f"plugin `{name}`: cannot read `{where}`: {e.strerror}"
            source.problems.append(
                Problem(f"plugins.{name}.load", message, expected="a file beside the configuration, `./file.py:name`")
            )
    return found


def _compile(canonical: bytes, packs: bytes, shadow: list[str]) -> list[Problem]:
    """What the compiler of the data plane has to say."""
    try:
        rules = _core.Ruleset(packs, "rust", shadow) if packs else None
    except _core.PackError as e:
        return [Problem(p["path"], p["message"], p["expected"], None, p["nearest"]) for p in e.args[0]]
    return [
        Problem(p["path"], p["message"], p.get("expected"), p.get("got"), p.get("nearest"))
        for p in json.loads(_core.check(canonical, rules))
    ]


def _duplicates(source: Source) -> list[Problem]:
    """Route names must be unique; the files do not make them so by themselves."""
    first: dict[str, str] = {}
    problems = []
    routes = source.value.get("routes")
    for index, route in enumerate(routes if isinstance(routes, list) else []):
        name = route.get("name") if isinstance(route, dict) else None
        if not isinstance(name, str):
            continue
        path = f"routes[{index}].name"
        if name in first:
            problems.append(
                Problem(
                    path,
                    f"two routes are called `{name}`",
                    help="rename one of them: metrics, logs and audit records tell routes apart by name",
                    other=source.values.get(first[name]),
                )
            )
        first.setdefault(name, path)
    return problems


def _addresses(source: Source) -> list[Problem]:
    """Listening addresses that cannot be, and an admin listener that would be open to everyone."""
    problems = []
    entrypoints = source.value.get("entrypoints")
    texts = {}
    for name, item in entrypoints.items() if isinstance(entrypoints, dict) else ():
        texts[f"entrypoints.{name}.address"] = item.get("address") if isinstance(item, dict) else None
    admin = source.value.get("admin")
    if isinstance(admin, dict) and admin.get("address"):
        texts["admin.address"] = admin["address"]
    taken: dict[tuple[str | None, str, int], str] = {}
    for path, text in texts.items():
        if not isinstance(text, str):
            continue
        try:
            address = Address.parse(text)
        except ValueError as e:
            problems.append(Problem(path, f"`{path}`: {e}", expected=EXPECTED))
            continue
        where = (address.path, address.host, address.port)
        if where in taken and (address.path is not None or address.port):
            message = f"`{path}` is the address of `{taken[where]}`, too"
            problems.append(Problem(path, message, expected="another address", other=source.values.get(taken[where])))
        taken.setdefault(where, path)
        if path == "admin.address" and not address.loopback and not (isinstance(admin, dict) and admin.get("token")):
            problems.append(
                Problem(
                    path,
                    f"the admin listener would be open to everyone who can reach `{text}`",
                    expected="an address on 127.0.0.1, or `admin.token`",
                    help='set admin.token = "env:PYGATE_ADMIN_TOKEN"',
                )
            )
    return problems


#: Keys whose value is a secret and must therefore be a reference.
_REFERENCES_ONLY = (("admin", "token"),)


def _literal_secrets(source: Source) -> list[Problem]:
    problems = []
    tables = {section: (source.value.get(section), key, "PYGATE_ADMIN_TOKEN") for section, key in _REFERENCES_ONLY}
    accounts = source.value.get("acme")
    for name, account in accounts.items() if isinstance(accounts, dict) else ():
        tables[f"acme.{name}"] = (account, "eab_hmac_key", "EAB_HMAC_KEY")
    for section, (table, key, variable) in tables.items():
        value = table.get(key) if isinstance(table, dict) else None
        if isinstance(value, str) and value and not is_reference(value):
            problems.append(
                Problem(
                    f"{section}.{key}",
                    f"`{section}.{key}` must be a reference, not the secret itself",
                    expected="`env:NAME` or `file:PATH`",
                    help=f'write {key} = "env:{variable}" and set that variable',
                )
            )
    return problems + providers.literal_credentials(source.value)


def _finite(value: Any) -> Any:
    """JSON has no NaN; the schema check has refused it where it stands."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    return value


def _order(source: Source, place: Place | None) -> tuple[int, int, int]:
    if place is None or place.file not in source.files:
        return (-1, 0, 0)
    return (source.files.index(place.file), place.line, place.column)


def _default(path: tuple[str, ...]) -> Any:
    root = schema.schema()
    node: Any = root
    for key in path:
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        node = node["properties"][key]
    return node.get("default")

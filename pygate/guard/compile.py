"""Makes rule sets of packs, and the Hyperscan database that accelerates them.

Rules:

1. Compiling takes up to seconds: never on an event loop. `hyperscan` lets go of the GIL meanwhile.
2. The pinned wheel only (0.7.19, Vectorscan 5.4.11): later ones silently miss matches. Another version, or
   none, means the Rust engine, and the reason is said.
3. A database belongs to the rules with its fingerprint and to one version of the library; both are checked
   again where it is loaded.
"""

from __future__ import annotations

import ctypes
import functools
import os
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from pygate import _core
from pygate.config.problem import ConfigError, Problem
from pygate.guard.packs import PackFile, located, to_json

#: The only release whose engine was found clean.
PINNED = "0.7.19"


class Unavailable(Exception):
    """Hyperscan cannot be used; the message says why."""


def ruleset(
    packs: Sequence[PackFile],
    engine: str = "auto",
    shadow: Sequence[str] = (),
    cache: Path | None = None,
) -> _core.Ruleset:
    """Compiles packs with the engine asked for; `auto` falls back to Rust. Raises ConfigError.

    `cache` is a directory in which databases are kept from one start to the next.
    """
    json = to_json(packs)
    try:
        portable = _core.Ruleset(json, "rust", list(shadow))
        if engine == "rust":
            return portable
        try:
            database = hyperscan(portable, cache)
        except Unavailable as why:
            if engine == "auto":
                return portable
            message = f"Hyperscan cannot be used: {why}"
            raise ConfigError([Problem("guard.engine", message, expected='engine = "auto" or "rust"')]) from None
        return _core.Ruleset(json, engine, list(shadow), database)
    except _core.PackError as error:
        raise ConfigError([located(packs, problem) for problem in error.args[0]]) from None


def hyperscan(rules: _core.Ruleset, cache: Path | None = None) -> _core.HyperscanDb:
    """The database of a rule set, compiled or from `cache`. Raises Unavailable."""
    path = library()
    found = version(path)
    file = cache / f"{rules.fingerprint[:32]}-{found.split()[0]}.hsdb" if cache else None
    if file is not None and file.is_file():
        return _core.HyperscanDb(file.read_bytes(), path, found, rules.fingerprint)
    data = _compile([rule["ending"].encode() for rule in rules.rules()])
    if file is not None:
        _keep(file, data)
    return _core.HyperscanDb(data, path, found, rules.fingerprint)


@functools.cache
def library() -> Path:
    """The extension module of the pinned wheel, which exports the C functions. Raises Unavailable."""
    try:
        distribution = metadata.distribution("hyperscan")
    except metadata.PackageNotFoundError:
        raise Unavailable(f"the package hyperscan=={PINNED} is not installed") from None
    if distribution.version != PINNED:
        raise Unavailable(f"hyperscan {distribution.version} is installed, only {PINNED} is known to miss nothing")
    for file in distribution.files or ():
        if file.name.startswith("_hs_ext.") and file.suffix == ".so":
            return Path(str(file.locate())).resolve()
    raise Unavailable("the package hyperscan has no extension module")


def version(path: Path) -> str:
    """`hs_version` of a library. Raises Unavailable."""
    try:
        function = ctypes.CDLL(str(path)).hs_version
    except (OSError, AttributeError) as error:
        raise Unavailable(f"{path}: {error}") from None
    function.restype = ctypes.c_char_p
    function.argtypes = []
    return str(function().decode())


def _compile(patterns: Sequence[bytes]) -> bytes:
    import hyperscan as engine

    database = engine.Database(mode=engine.HS_MODE_BLOCK)
    try:
        database.compile(
            expressions=list(patterns),
            ids=list(range(len(patterns))),
            elements=len(patterns),
            flags=[0] * len(patterns),
        )
    except engine.error as error:
        raise Unavailable(f"the rules do not compile: {error}") from None
    return bytes(engine.dumpb(database))


def _keep(file: Path, data: bytes) -> None:
    """Writes a cache file whole or not at all; a cache that cannot be written is only slower."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as temporary:
            temporary.write(data)
        os.replace(temporary.name, file)
    except OSError:
        return

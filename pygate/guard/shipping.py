"""How rule packs reach the workers: as files in a revision's directory.

`gather` finds the packs a configuration names, `ship` writes them beside the configuration with their Hyperscan
database, `receive` makes the rule set in a worker. `receive` imports nothing of the control side.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from pygate import _core

PACKS = "packs.json"
DATABASE = "guard.hsdb"
ENGINE = "guard.json"


def gather(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names of the packs that routes use, with the path of each mention. `value` has passed the schema."""
    for index, route in enumerate(value.get("routes", [])):
        for side in ("request", "response"):
            for position, name in enumerate(route.get("guard", {}).get(side, [])):
                yield name, f"routes[{index}].guard.{side}[{position}]"


def ship(directory: Path, packs: bytes, guard: dict[str, Any], cache: Path | None = None) -> None:
    """Writes what `receive` reads. Slow (compiles the database): not on an event loop."""
    from pygate.guard import compile as compiler

    (directory / PACKS).write_bytes(packs)
    settings = {"engine": guard.get("engine", "auto"), "shadow": guard.get("shadow", [])}
    if settings["engine"] != "rust":
        portable = _core.Ruleset(packs, "rust", settings["shadow"])
        try:
            database = compiler.hyperscan(portable, cache)
        except compiler.Unavailable:
            if settings["engine"] == "hyperscan":
                raise
        else:
            (directory / DATABASE).write_bytes(database.bytes)
            settings["library"] = str(database.library)
            settings["version"] = database.version
            settings["fingerprint"] = database.fingerprint
    (directory / ENGINE).write_bytes(orjson.dumps(settings))


def receive(directory: Path) -> _core.Ruleset | None:
    """The rule set that lies in a revision's directory; None when it has no packs."""
    if not (directory / PACKS).exists():
        return None
    settings = orjson.loads((directory / ENGINE).read_bytes())
    database = None
    if "library" in settings:
        data = (directory / DATABASE).read_bytes()
        database = _core.HyperscanDb(data, settings["library"], settings["version"], settings["fingerprint"])
    return _core.Ruleset((directory / PACKS).read_bytes(), settings["engine"], settings["shadow"], database)

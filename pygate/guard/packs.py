"""Finds rule packs by name and reads them.

Rules:

1. A pack is one TOML file, `NAME.toml`, of the shape `pygate._core.pack_schema()` gives.
2. Directories of the configuration (`guard.packs`) come before the built-in packs, in their order.
3. Problems of a pack carry the place in its file, like those of a configuration.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pygate import _core
from pygate.config import schema
from pygate.config.problem import ConfigError, Place, Problem

#: Taken out of examples before they are used: it keeps scanners of source code from taking a made-up token
#: for a real one.
SPLIT = "¦"


@dataclass
class PackFile:
    """A pack as read. Usable when `problems` is empty."""

    path: Path
    text: str
    value: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name in its `[pack]` table, else that of the file."""
        head = self.value.get("pack")
        name = head.get("name") if isinstance(head, dict) else None
        return name if isinstance(name, str) else self.path.stem

    @property
    def rules(self) -> list[dict[str, Any]]:
        """Its `[[rule]]` tables."""
        rules: list[dict[str, Any]] = self.value.get("rule", [])
        return rules

    def locate(self, problem: Problem) -> Problem:
        """Fills in the place of a problem whose path is inside this pack, from the nearest thing known."""
        path = problem.path.removeprefix(f"packs.{self.name}").removeprefix(".")
        while path and path not in self.places:
            cut = max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
        problem.place = self.places.get(path) or Place(self.path, 1, 1, 1)
        return problem


def builtin() -> Path:
    """The directory of the built-in packs: inside the wheel, or `rules/` of a source tree."""
    inside = Path(str(importlib.resources.files("pygate"))) / "rules"
    return inside if inside.is_dir() else inside.parent.parent / "rules"


def names(directories: Iterable[str | Path] = ()) -> list[str]:
    """The names of all packs that `find` finds."""
    found = {path.stem for directory in (*directories, builtin()) for path in Path(directory).glob("*.toml")}
    return sorted(found)


def find(name: str, directories: Iterable[str | Path] = ()) -> Path:
    """The file of the pack called `name`. Raises ConfigError."""
    directories = (*directories, builtin())
    for directory in directories:
        path = Path(directory) / f"{name}.toml"
        if path.is_file():
            return path
    known = names(directories)
    raise ConfigError(
        [
            Problem(
                "",
                f"there is no rule pack `{name}`",
                expected=f"one of {', '.join(known)}",
                nearest=schema.nearest(name, known),
                help=f"looked for {name}.toml in {', '.join(str(d) for d in directories)}",
            )
        ]
    )


def read(path: Path) -> PackFile:
    """Reads one pack and checks its shape; problems are in the result."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        return PackFile(path, "", problems=[Problem("", f"cannot read `{path}`: {why}")])
    pack = PackFile(path, text)
    try:
        pack.value, places = _core.read_toml(text)
    except ValueError as error:
        message, line, column, length = error.args
        pack.problems.append(Problem("", f"not TOML: {message}", place=Place(path, line, column, length)))
        return pack
    pack.places = {key: Place(path, *value) for key, (_, value) in places.items()}
    pack.problems = [pack.locate(problem) for problem in schema.check(pack.value, _schema())]
    if not pack.problems and pack.name != path.stem:
        problem = Problem("pack.name", f"the pack `{pack.name}` is in a file called `{path.name}`")
        problem.help = f"call the file {pack.name}.toml"
        pack.problems.append(pack.locate(problem))
    return pack


def load(wanted: Sequence[str], directories: Iterable[str | Path] = ()) -> list[PackFile]:
    """Reads the packs with these names, in this order. Raises ConfigError with all their problems."""
    return ensure([read(find(name, directories)) for name in wanted])


def ensure(packs: list[PackFile]) -> list[PackFile]:
    """The packs, if none has problems; else raises ConfigError."""
    if problems := [problem for pack in packs for problem in pack.problems]:
        raise ConfigError(problems)
    return packs


def to_json(packs: Iterable[PackFile]) -> bytes:
    """What `_core.Ruleset` and the data plane take: the packs without their examples."""
    stripped = [
        {
            **pack.value,
            "rule": [{k: v for k, v in rule.items() if k not in ("match", "no_match")} for rule in pack.rules],
        }
        for pack in packs
    ]
    return orjson.dumps(stripped, option=orjson.OPT_SORT_KEYS)


def located(packs: Sequence[PackFile], found: _core.FoundProblem) -> Problem:
    """A problem the compiler found in one of these packs, with its place."""
    problem = Problem(found["path"], found["message"], expected=found["expected"], nearest=found["nearest"])
    for pack in packs:
        if problem.path.startswith(f"packs.{pack.name}."):
            return pack.locate(problem)
    return problem


@functools.cache
def _schema() -> dict[str, Any]:
    derived: dict[str, Any] = json.loads(_core.pack_schema())
    return derived

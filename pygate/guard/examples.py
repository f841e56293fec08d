"""Runs what every rule says about itself: `match` and `no_match`, through both engines.

An example stands for plain text and, the same rule must hold there, for the value of a JSON string.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from pygate import _core
from pygate.config.problem import Place
from pygate.guard.packs import SPLIT, PackFile


@dataclass(frozen=True, slots=True)
class Failure:
    """An example that does not do what its rule says, or a rule that gives none."""

    rule: str
    #: Path of the example in its pack, for its place.
    path: str
    message: str
    place: Place | None


@dataclass(frozen=True, slots=True)
class Example:
    """One text and whether the rule must find something in it."""

    rule: str
    path: str
    text: str
    found: bool


def examples(pack: PackFile) -> Iterator[Example]:
    """All examples of a pack, as they are used (without splits)."""
    for index, rule in enumerate(pack.rules):
        for key, found in (("match", True), ("no_match", False)):
            for number, text in enumerate(rule.get(key, ())):
                path = f"rule[{index}].{key}[{number}]"
                yield Example(f"{pack.name}/{rule['id']}", path, text.replace(SPLIT, ""), found)


def run(pack: PackFile, engines: Sequence[_core.Ruleset]) -> Iterator[Failure]:
    """Every failure of a pack's examples under each of the rule sets."""
    for index, rule in enumerate(pack.rules):
        for key in ("match", "no_match"):
            if not rule.get(key):
                path = f"rule[{index}]"
                message = f"the rule gives no `{key}` example"
                yield Failure(f"{pack.name}/{rule['id']}", path, message, pack.places.get(path))
    plans = [(engine.engine, engine.plan()) for engine in engines]
    for example in examples(pack):
        for name, plan in plans:
            for kind, body in (
                ("text/plain", example.text.encode()),
                ("application/json", orjson.dumps([example.text])),
            ):
                found = any(finding[0] == example.rule for finding in plan.judge(kind, body)[1])
                if found != example.found:
                    verb = "found nothing in" if example.found else "found something in"
                    message = f"the {name} engine {verb} the {kind} form of an example"
                    yield Failure(example.rule, example.path, message, pack.places.get(example.path))

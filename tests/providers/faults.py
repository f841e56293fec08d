"""Rules that break answers: which calls, and how. Set by `PUT /__faults` with a JSON list, told by `GET`.

A rule has conditions (`provider`, `model`, `key`, `operation`: exact or with `*`; `stream`: true or false), an order
among the calls that fulfil them (`nth`: a number or a list of them from 1; `first`: N; `every`: N), and effects. The
effects of all rules that hold are joined; where two set the same one, the earlier rule wins.

Unknown keys and wrong types are refused, so that a test does not pass because of a spelling mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass
class Effects:
    """What is done to a call. Times are milliseconds."""

    delay_head: float | None = None
    """Before anything is answered."""
    delay_first: float | None = None
    """After the head and the events that come before it, before the first delta."""
    delay_delta: float | None = None
    """Before each delta after the first."""
    status: int | None = None
    """Refuses with it, in the provider's shape."""
    headers: dict[str, str] | None = None
    """Added to the answer's, or instead of them: `retry-after`, `retry-after-ms`, `x-should-retry`, …"""
    message: str | None = None
    """Of the refusal or the error event."""
    body: str | None = None
    """Instead of the refusal's own."""
    hang: bool | None = None
    """The call is never answered."""
    drop: bool | None = None
    """The connection is reset instead of an answer."""
    cut_bytes: int | None = None
    """The body ends after that many octets."""
    cut_deltas: int | None = None
    """The stream ends after that many deltas."""
    cut_by: Literal["reset", "close", "clean"] | None = None
    """How: by RST, by FIN without the last chunk (default), or with the last chunk, as if it were complete."""
    error_after: int | None = None
    """An error event of the dialect after that many deltas; the stream ends with it."""
    error_status: int | None = None
    """What that error says (default 500)."""
    malformed: int | None = None
    """The n-th delta, from 1, is broken; of a whole answer the end of its JSON."""
    done: bool | None = None
    """False: the terminal event is missing."""
    usage: Literal["normal", "omit", "repeat"] | None = None
    """Left out, or told again in every event that can hold it."""
    write: int | None = None
    """Octets per write and per chunk."""
    newline: Literal["lf", "crlf", "cr"] | None = None
    comments: bool | None = None
    """A comment before every event."""
    multiline: bool | None = None
    """JSON over many `data:` lines."""
    bom: bool | None = None
    """A byte order mark first."""
    no_space: bool | None = None
    """`data:` without the space."""

    def join(self, other: Effects) -> None:
        for entry in fields(self):
            if getattr(self, entry.name) is None:
                setattr(self, entry.name, getattr(other, entry.name))


@dataclass
class Rule:
    provider: str = "*"
    model: str = "*"
    key: str = "*"
    operation: str = "*"
    stream: bool | None = None
    nth: int | list[int] | None = None
    first: int | None = None
    every: int | None = None
    effects: Effects = field(default_factory=Effects)
    seen: int = 0
    applied: int = 0

    def holds(self, provider: str, model: str, key: str, operation: str, stream: bool) -> bool:
        """Counts the call when it fulfils the conditions."""
        pairs = ((self.provider, provider), (self.model, model), (self.key, key), (self.operation, operation))
        if not all(fnmatchcase(value, pattern) for pattern, value in pairs) or self.stream not in (None, stream):
            return False
        self.seen += 1
        nth = [self.nth] if isinstance(self.nth, int) else self.nth
        applies = (
            (nth is None or self.seen in nth)
            and (self.first is None or self.seen <= self.first)
            and (self.every is None or self.seen % self.every == 0)
        )
        self.applied += applies
        return applies

    def told(self) -> dict[str, Any]:
        entries = {name: getattr(self, name) for name in CONDITIONS}
        entries |= {entry.name: getattr(self.effects, entry.name) for entry in fields(Effects)}
        told = {name: value for name, value in entries.items() if value is not None and value != "*"}
        return told | {"seen": self.seen, "applied": self.applied}


CONDITIONS = ("provider", "model", "key", "operation", "stream", "nth", "first", "every")
_HINTS = get_type_hints(Rule) | get_type_hints(Effects)


class Faults:
    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def put(self, value: Any) -> None:
        """Replaces the rules. Raises ValueError for what is not one."""
        if not isinstance(value, list):
            raise ValueError("expected a list of rules")
        self.rules = [read(rule, f"[{at}]") for at, rule in enumerate(value)]

    def of(self, provider: str, model: str, key: str, operation: str, stream: bool) -> Effects:
        effects = Effects()
        for rule in self.rules:
            if rule.holds(provider, model, key, operation, stream):
                effects.join(rule.effects)
        return effects


def read(value: Any, where: str) -> Rule:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object")
    rule = Rule()
    for name, found in value.items():
        target: Any = rule if name in CONDITIONS else rule.effects
        if name not in _HINTS or not hasattr(target, name):
            known = ", ".join([*CONDITIONS, *(entry.name for entry in fields(Effects))])
            raise ValueError(f"{where}.{name}: unknown; known are {known}")
        if not _fits(found, _HINTS[name]):
            raise ValueError(f"{where}.{name}: {found!r} is not {_HINTS[name]}")
        setattr(target, name, found)
    return rule


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(item, str) for item in [*value, *value.values()])
    if origin is not None:
        return any(_fits(value, part) for part in get_args(hint))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)

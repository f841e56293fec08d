"""What the suites of clients have in common: where they go, what a feature is, how it is found out.

A feature is a function of a `Place` and a `Target` that raises when it does not work. It holds for the client's own
dialect; one that is `cross` holds for models of every provider, too, with the gateway between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.providers.running import Simulator

T = TypeVar("T")
#: Name that clients ask for → the provider behind it.
LABELS = {"fast": "openai", "claude": "anthropic", "gemini": "gemini", "nova": "bedrock"}
#: What the models are called by providers.
NAMES = {
    "fast": "gpt-4o-mini",
    "claude": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "nova": "amazon.nova-lite-v1:0",
    "embed": "text-embedding-3-small",
}
WAIT = 1
"""Seconds of the `retry-after` that clients have to obey."""


@dataclass(frozen=True)
class Place:
    """Addresses and keys. `openai` ends in `/v1`, the others are roots."""

    openai: str
    anthropic: str
    gemini: str
    keys: dict[str, str]
    """By dialect."""
    models: dict[str, str]
    """Label → name to ask for."""
    simulator: Simulator
    direct: bool
    settle: float = 0.0
    """Seconds that a gateway is given after a fault to try the provider again."""

    def key(self, dialect: str) -> str:
        return self.keys[dialect]

    @contextmanager
    def fault(self, label: str, **effects: Any) -> Iterator[None]:
        """While it lasts the provider of that label's model is broken so."""
        self.simulator.faults({"provider": LABELS[label], **effects})
        try:
            yield
        finally:
            self.simulator.faults()
            time.sleep(self.settle)


@dataclass(frozen=True)
class Target:
    label: str
    model: str


Feature = Callable[[Place, Target], None]


@dataclass
class Suite:
    """One client."""

    client: str
    own: str
    """Label of the model that its own dialect's provider serves."""
    features: dict[str, Feature] = field(default_factory=dict)
    crossing: set[str] = field(default_factory=set)

    def feature(self, name: str, cross: bool = True) -> Callable[[Feature], Feature]:
        def keep(run: Feature) -> Feature:
            self.features[name] = run
            if cross:
                self.crossing.add(name)
            return run

        return keep


@dataclass(frozen=True)
class Found:
    client: str
    model: str
    feature: str
    ok: bool
    detail: str = ""
    seconds: float = 0.0


def run(suite: Suite, place: Place, labels: list[str]) -> Iterator[Found]:
    """Every feature of a client with every wanted model."""
    for label in labels:
        target = Target(label, place.models[label])
        for name, feature in suite.features.items():
            if label == suite.own or name in suite.crossing:
                began = time.monotonic()
                detail = attempt(feature, place, target)
                yield Found(suite.client, label, name, not detail, detail, round(time.monotonic() - began, 3))


def attempt(feature: Feature, place: Place, target: Target) -> str:
    """Why it does not work; empty if it does."""
    try:
        feature(place, target)
    except Exception as error:
        trace, where = error.__traceback__, ""
        while trace is not None:
            if "tests/ai" in (file := trace.tb_frame.f_code.co_filename):
                where = f"{file.rpartition('/')[2]}:{trace.tb_lineno}"
            trace = trace.tb_next
        return " ".join(f"{where} {type(error).__name__}: {error}".split())[:500]
    return ""


def same(found: Any, expected: Any) -> None:
    """Says what came, as these checks run without pytest."""
    if found != expected:
        raise AssertionError(f"expected {expected!r}, got {found!r}")


def holds(condition: Any, what: str) -> None:
    if not condition:
        raise AssertionError(what)


_RUNNER = asyncio.Runner()


def together(one: Callable[[int], Coroutine[Any, Any, T]], count: int = 8) -> list[T]:
    """Results of so many calls at once. All of them share one loop, as some clients keep connections of their first."""

    async def all_of_them() -> list[T]:
        return list(await asyncio.gather(*(one(number) for number in range(count))))

    return _RUNNER.run(all_of_them())


@contextmanager
def raises(*kinds: type[BaseException]) -> Iterator[list[Any]]:
    """The error is put into the list."""
    caught: list[Any] = []
    try:
        yield caught
    except kinds as error:
        caught.append(error)
        return
    raise AssertionError(f"nothing was raised, expected {' or '.join(kind.__name__ for kind in kinds)}")


def breaks(stream: Iterable[Any], *kinds: type[BaseException]) -> None:
    """The stream begins, and ends in an error."""
    came = 0
    with raises(*kinds):
        for _ in stream:
            came += 1
    holds(came, "it broke before it began")


# ---- what all clients are asked --------------------------------------------------------------------------------------

TEXT = "the quick brown fox"
CITIES = ["Bern and its lakes", "Zürich"]
ASKED = 'please call weather({"city": "Bern and its lakes"}) and call weather({"city": "Zürich"})'
ONE = 'please call weather({"city": "Bern and its lakes"})'
SYSTEM = "You are terse."
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
SEEN = "look [image image/png 68]"
LONG = "count to 60"
COUNTED = " ".join(str(number) for number in range(1, 61))

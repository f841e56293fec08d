"""The seeds of the configuration reader's fuzz target, and what the target itself must not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pygate.config import source
from tests.fuzz import config_promises
from tests.fuzz.__main__ import FUZZ, SEEDS, WORDS, targets

SEED_FILES = sorted((FUZZ / "corpus" / SEEDS["config_reader"]).iterdir())


@pytest.fixture(autouse=True)
def confined() -> Iterator[None]:
    read, find = source._read_any, source.glob.glob  # type: ignore[attr-defined]
    config_promises.confine()
    yield
    source._read_any = read
    source.glob.glob = find  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", SEED_FILES, ids=lambda path: path.name)
def test_seeds_are_read_as_promised(seed: Path) -> None:
    config_promises.check(seed.read_bytes())


@pytest.mark.parametrize("include", ["/etc/*.conf", "/etc/passwd", "../*/*", "a/../../x", "more.toml", "*.toml", "."])
def test_includes_stay_inside(include: str) -> None:
    opened: list[Path] = []
    read = source._read_file
    source._read_file = lambda source, path, trail, named_at: opened.append(path)
    try:
        source._read_any(source.Source(), config_promises.ROOT, [], None)
        source._include(source.Source(), config_promises.ROOT, include, [config_promises.ROOT / "x"], None)
    finally:
        source._read_file = read
    assert opened and all(config_promises.ROOT in path.resolve().parents for path in opened)


def test_every_target_has_seeds_and_words_have_their_target() -> None:
    assert len(targets()) > 8 and set(WORDS) < set(targets())
    assert all((FUZZ / "dictionaries" / f"{name}.dict").exists() for name in WORDS.values())
    for target in targets():
        assert any((FUZZ / "corpus" / SEEDS.get(target, target)).iterdir()), target

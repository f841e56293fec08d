"""Rust ≡ Hyperscan ≡ Python `re`: the same rules find the same spans in the same text.

Validators are taken out of the rules first, so that expressions alone are compared. What is compared is the
set of (rule, span), a rule's matches being leftmost-first and not overlapping: `re.finditer`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pygate import _core
from pygate.guard import compile, examples, packs

TEXTS = 20_000

Finding = tuple[str, int, int]


class Engines:
    """All rules, three times."""

    def __init__(self) -> None:
        self.files = packs.load(packs.names())
        bare = orjson.loads(packs.to_json(self.files))
        for pack in bare:
            for rule in pack["rule"]:
                rule.pop("validate", None)
                rule["action"] = "tag"
        json = orjson.dumps(bare)
        portable = _core.Ruleset(json, "rust")
        accelerated = _core.Ruleset(json, "hyperscan", [], compile.hyperscan(portable))
        assert (portable.engine, accelerated.engine) == ("rust", "hyperscan")
        self.portable, self.accelerated = portable.plan(), accelerated.plan()
        self.oracle = [(rule["rule"], re.compile(rule["pattern"].encode())) for rule in portable.rules()]

    def rust(self, text: bytes) -> set[Finding]:
        return {(f[0], f[4], f[5]) for f in self.portable.judge("text/plain", text)[1]}

    def hyperscan(self, text: bytes) -> set[Finding]:
        return {(f[0], f[4], f[5]) for f in self.accelerated.judge("text/plain", text)[1]}

    def python(self, text: bytes) -> set[Finding]:
        found = set()
        for rule, pattern in self.oracle:
            group = "secret" if "secret" in pattern.groupindex else 0
            for match in pattern.finditer(text):
                # A secret group in a branch that took no part: the whole match counts.
                span = match.span(group) if match.span(group) != (-1, -1) else match.span()
                if span[0] < span[1]:
                    found.add((rule, *span))
        return found


@pytest.fixture(scope="module")
def engines() -> Engines:
    return Engines()


def texts(engines: Engines, rng: random.Random) -> Iterator[bytes]:
    """Short texts in which rules nearly match: mutated and joined examples."""
    seeds = [e.text.encode() for pack in engines.files for e in examples.examples(pack)]
    short = [seed[:160] for seed in seeds]
    glue = [b" ", b"", b"\n", b", ", b"=", b'"', b": ", b"-", b".", b"_", b"\xe2\x80\x8b", b"0", b"a"]
    while True:
        text = bytearray(rng.choice(short))
        if rng.random() < 0.3:
            text += rng.choice(glue) + rng.choice(short)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            at = rng.randrange(len(text) + 1)
            match rng.randrange(7):
                case 0:
                    del text[at : at + rng.randrange(1, 4)]
                case 1:
                    text[at:at] = rng.choice(glue)
                case 2:
                    text[at:at] = text[at : at + rng.randrange(1, 9)]
                case 3:
                    text[at : at + 1] = text[at : at + 1].swapcase()
                case 4:
                    text[at : at + 1] = bytes([rng.randrange(256)])
                case 5:
                    text = bytearray(bytes(text).swapcase())
                case 6:
                    text = text[:at] if rng.random() < 0.5 else text[at:]
        yield bytes(text)


@pytest.mark.timeout(240)
def test_engines_agree_on_mutated_examples(engines: Engines) -> None:
    source = texts(engines, random.Random(20261123))
    matched = 0
    for _ in range(TEXTS):
        text = next(source)
        expected = engines.python(text)
        matched += bool(expected)
        assert engines.rust(text) == expected, text
        assert engines.hyperscan(text) == expected, text
    # A test in which nothing matches would show nothing.
    assert TEXTS // 4 < matched < TEXTS


@pytest.mark.timeout(240)
def test_engines_agree_on_texts_made_of_many(engines: Engines) -> None:
    """Longer texts, beyond one scan: both engines against each other."""
    source = texts(engines, random.Random(7))
    for _ in range(60):
        text = b"".join(b"%s lorem ipsum " % next(source) for _ in range(2_000))
        assert engines.rust(text) == engines.hyperscan(text)


@pytest.mark.timeout(240)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_engines_agree_on_generated_matches(engines: Engines, data: st.DataObject) -> None:
    rule, pattern = data.draw(st.sampled_from(engines.oracle))
    # Drawn as text: of patterns of bytes, the generator cannot make letters of either case.
    flags = pattern.flags & (re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE) | re.ASCII
    inside = data.draw(st.from_regex(re.compile(pattern.pattern.decode("latin-1"), flags))).encode()
    text = data.draw(st.binary(max_size=12)) + inside[:4000]
    expected = engines.python(text)
    assert engines.rust(text) == expected
    assert engines.hyperscan(text) == expected


def test_every_rule_does_what_it_says(engines: Engines) -> None:
    """Every rule has positives and negatives, and both engines agree with them, validators included."""
    rulesets = [compile.ruleset(engines.files, "rust"), compile.ruleset(engines.files, "hyperscan")]
    failures = [failure for pack in engines.files for failure in examples.run(pack, rulesets)]
    assert failures == []
    assert sum(len(pack.rules) for pack in engines.files) >= 150

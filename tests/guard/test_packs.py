"""Packs, the command line, and what a wrong pack says about itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pygate import _core
from pygate.config.problem import ConfigError
from pygate.guard import compile, packs

PACK = """[pack]
name = "mine"
version = "1"

[[rule]]
id = "ticket"
pattern = '\\bTCK-[0-9]{6}\\b'
action = "mask"
match = ["see TCK-123456"]
no_match = ["TCK-12"]
"""


def pygate(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pygate.cli.main", "guard", *args]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(PACK)
    return path


def test_the_built_in_packs_are_found_by_name() -> None:
    assert {"secrets", "pii", "prompt-injection"} <= set(packs.names())
    assert [pack.name for pack in packs.load(["pii", "secrets"])] == ["pii", "secrets"]


def test_an_unknown_pack_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        packs.find("secret")
    assert caught.value.problems[0].nearest == "secrets"


def test_own_directories_come_first(pack: Path) -> None:
    own = pack.with_name("pii.toml")
    own.write_text(PACK.replace('"mine"', '"pii"'))
    assert packs.find("pii", [pack.parent]) == own
    assert packs.find("secrets", [pack.parent]).parent == packs.builtin()


@pytest.mark.parametrize(
    ("change", "line", "part"),
    [
        (("[0-9]{6}", "[0-9]{6}("), 7, "unclosed group"),
        (("[0-9]{6}", "(?=x)[0-9]{6}"), 7, "look-around"),
        (("[0-9]{6}\\b", "[0-9]{6}$"), 7, "text anchors"),
        (('"mask"', '"masc"'), 8, "masc"),
        (("version", "versoin"), 3, "versoin"),
        (('id = "ticket"', 'id = "Ticket One"'), 6, "not a rule id"),
        (('name = "mine"', 'name = "other"'), 2, "mine.toml"),
        (("[[rule]]", "[[rule]"), 5, "not TOML"),
    ],
)
def test_problems_carry_their_place(pack: Path, change: tuple[str, str], line: int, part: str) -> None:
    pack.write_text(PACK.replace(*change))
    result = pygate("test", str(pack))
    assert result.returncode == 2
    assert f"mine.toml:{line}:" in result.stderr
    assert part in result.stderr
    assert "problem" in result.stderr


def test_examples_that_fail_are_shown_and_the_exit_code_says_so(pack: Path) -> None:
    pack.write_text(PACK.replace("TCK-12", "TCK-123456"))
    result = pygate("test", str(pack))
    assert result.returncode == 1
    assert "mine.toml:10:13" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("failed: packs=1 rules=1 examples=2 engines=rust,hyperscan")
    assert json.loads(pygate("test", "--json", str(pack)).stdout)["ok"] is False


def test_a_rule_without_examples_fails(pack: Path) -> None:
    pack.write_text(PACK.replace('no_match = ["TCK-12"]\n', ""))
    assert "gives no `no_match` example" in pygate("test", str(pack)).stdout


def test_scan_prints_places_and_hides_what_it_found(pack: Path, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text('{"a": 1,\n "note": "about TCK-\\u0031\\u0032\\u0033456"}')
    result = pygate("scan", str(body), "--packs", str(pack), "--json")
    found = json.loads(result.stdout)
    (finding,) = found["findings"]
    assert (found["verdict"], finding["rule"], finding["line"], finding["column"]) == ("masked", "mine/ticket", 2, 17)
    assert body.read_bytes()[slice(*finding["span"])] == b"TCK-\\u0031\\u0032\\u0033456"
    assert finding["channel_span"] == [6, 16]
    plain = pygate("scan", "-", "--packs", str(pack), stdin="about TCK-123456").stdout
    assert "mine/ticket" in plain and "TCK-123456" not in plain and "\x1b" not in plain


def test_shadow_rules_only_report(pack: Path) -> None:
    rules = compile.ruleset([packs.read(pack)], "rust", shadow=["mine/ticket"])
    verdict, findings, masked = rules.plan(["mine"]).judge("text/plain", b"TCK-123456")
    assert (verdict, len(findings), masked) == ("pass", 1, None)
    with pytest.raises(ConfigError) as caught:
        compile.ruleset([packs.read(pack)], "rust", shadow=["mine/tickets"])
    assert caught.value.problems[0].nearest == "mine/ticket"


def test_a_database_of_other_rules_is_refused(pack: Path, tmp_path: Path) -> None:
    first = compile.ruleset([packs.read(pack)], "rust")
    database = compile.hyperscan(first, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert compile.hyperscan(first, cache=tmp_path / "cache").bytes == database.bytes
    pack.write_text(PACK.replace("{6}", "{7}"))
    other = packs.to_json([packs.read(pack)])
    fallen_back = _core.Ruleset(other, "auto", [], database)
    assert fallen_back.engine == "rust" and "other rules" in fallen_back.notes[0]
    with pytest.raises(_core.PackError):
        _core.Ruleset(other, "hyperscan", [], database)


def test_a_damaged_database_is_refused(pack: Path) -> None:
    rules = compile.ruleset([packs.read(pack)], "rust")
    good = compile.hyperscan(rules)
    middle = len(good.bytes) // 2
    for damaged in (
        b"",
        good.bytes[:-8],
        good.bytes[:middle] + bytes([good.bytes[middle] ^ 1]) + good.bytes[middle + 1 :],
    ):
        database = _core.HyperscanDb(damaged, good.library, good.version, good.fingerprint)
        fallen_back = _core.Ruleset(packs.to_json([packs.read(pack)]), "auto", [], database)
        assert fallen_back.engine == "rust"
        assert fallen_back.plan().judge("text/plain", b"TCK-123456")[0] == "masked"


def test_what_cannot_be_judged_is_an_error(pack: Path) -> None:
    plan = compile.ruleset([packs.read(pack)], "rust").plan()
    with pytest.raises(_core.Unjudgeable, match="not valid JSON"):
        plan.judge("application/json", b'{"a":')
    with pytest.raises(_core.Unjudgeable, match="charset"):
        plan.judge("text/plain; charset=utf-16", b"x")
    with pytest.raises(ValueError, match="not a type of text"):
        plan.judge("image/png", b"x")


@pytest.mark.parametrize("module", ["pygate.guard.packs", "pygate.guard.compile", "pygate.config"])
def test_every_module_can_be_imported_first(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=60)

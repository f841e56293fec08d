"""Files, merging, revisions, references."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pygate.cli.main import main
from pygate.config import load
from pygate.config.address import Address
from pygate.config.credentials import resolved
from pygate.config.schema import schema
from pygate.config.secrets import SecretError, redact, resolve
from pygate.config.units import seconds
from pygate.control import watch

REPOSITORY = Path(__file__).parents[2]


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / (name.replace("__", "/") + ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def route(name: str) -> str:
    return f'[[routes]]\nname = "{name}"\nmatch.path = "/{name}"\nservice = "s"\n'


SERVICE = '[services.s]\nendpoints = ["http://127.0.0.1:1"]\n'


def test_directory_is_read_in_name_order(tmp_path: Path) -> None:
    write(tmp_path, b=route("two"), a=route("one") + SERVICE, c="[workers]\ncount = 3\n")
    loaded = load(tmp_path).ensure()
    assert [r["name"] for r in loaded.value["routes"]] == ["one", "two"]
    assert [f.name for f in loaded.files] == ["a.toml", "b.toml", "c.toml"]
    assert loaded.setting("workers", "count") == 3
    assert loaded.setting("workers", "drain_timeout") == "30s"


@pytest.mark.parametrize("name", ["a\\u0000b", "a\\u0000*", "x" * 300, "x" * 300 + "/*.toml", "y/" * 3000 + "a.toml"])
def test_include_of_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    write(tmp_path, main=f'include = ["{name}"]\n' + SERVICE + route("one"))
    problems = load(tmp_path / "main.toml").problems
    assert [str(p.place).rsplit("/", 1)[-1] for p in problems] == (["main.toml:1:12"] if "x/*" not in name else [])


def test_include_of_globs_files_and_directories(tmp_path: Path) -> None:
    write(
        tmp_path,
        main='include = ["routes/*.toml", "more", "one.toml"]\n' + SERVICE,
        one=route("one"),
        routes__x=route("x"),
        more__y=route("y") + 'include = ["../one.toml"]\n',
    )
    # A key after a table header belongs to that table: the mistake is reported, with its place.
    problems = load(tmp_path / "main.toml").problems
    assert [str(p.place).rsplit("/", 1)[-1] for p in problems] == ["y.toml:5:1"]
    write(tmp_path, more__y='include = ["../one.toml"]\n' + route("y"))
    loaded = load(tmp_path / "main.toml").ensure()
    assert sorted(r["name"] for r in loaded.value["routes"]) == ["one", "x", "y"]
    assert len(loaded.files) == 4


def test_problems_of_joined_routes_point_into_their_own_file(tmp_path: Path) -> None:
    write(tmp_path, a=route("one") + SERVICE, b=route("two") + "priority = true\n")
    (problem,) = load(tmp_path).problems
    assert problem.path == "routes[1].priority"
    assert problem.place and problem.place.file.name == "b.toml" and problem.place.line == 5


def test_name_in_two_files_shows_both_places(tmp_path: Path) -> None:
    write(tmp_path, a=SERVICE, b="\n" + SERVICE)
    (problem,) = load(tmp_path).problems
    assert "`services.s` is defined twice" in problem.message
    assert problem.place and problem.place.file.name == "b.toml" and problem.place.line == 2
    assert problem.other and problem.other.file.name == "a.toml" and problem.other.line == 1


def test_singletons_merge_by_key(tmp_path: Path) -> None:
    write(tmp_path, a="[workers]\ncount = 2\n", b='[workers]\ndrain_timeout = "1s"\n')
    assert load(tmp_path).ensure().value["workers"] == {"count": 2, "drain_timeout": "1s"}
    write(tmp_path, b="[workers]\ncount = 3\n")
    (problem,) = load(tmp_path).problems
    assert problem.other and problem.other.file.name == "a.toml"


def test_packs_that_are_missing_hide_no_other_problem(tmp_path: Path) -> None:
    text = SERVICE + route("one") + 'policies = ["none"]\nguard = { request = ["nope", "pii"] }\n'
    first, second = sorted(load(write(tmp_path, a=text)).problems, key=lambda p: p.path)
    assert (first.path, second.path) == ("routes[0].guard.request[0]", "routes[0].policies[0]")


def test_ports_of_their_own_are_no_collision(tmp_path: Path) -> None:
    text = '[entrypoints.a]\naddress = "127.0.0.1:0"\n[entrypoints.b]\naddress = "127.0.0.1:0"\n'
    assert not load(write(tmp_path, a=text)).problems


def test_include_cycle(tmp_path: Path) -> None:
    write(tmp_path, a='include = ["b.toml"]\n', b='include = ["a.toml"]\n')
    (problem,) = load(tmp_path / "a.toml").problems
    assert "a.toml → b.toml → a.toml" in problem.message


def test_revision_names_the_content_not_its_form(tmp_path: Path) -> None:
    one = load(write(tmp_path / "1", a='[workers]\ncount = 2\ndrain_timeout = "1s"\n')).ensure()
    two = load(write(tmp_path / "2", a='# other\nworkers = { drain_timeout = "1s", count = 2 }\n')).ensure()
    other = load(write(tmp_path / "3", a='[workers]\ncount = 3\ndrain_timeout = "1s"\n')).ensure()
    assert one.revision == two.revision != other.revision
    assert len(one.revision) == 12 and int(one.revision, 16) >= 0
    assert one.json == b'{"workers":{"count":2,"drain_timeout":"1s"}}'


def test_watch_sees_edits_new_files_and_removals(tmp_path: Path) -> None:
    write(tmp_path, a=SERVICE)
    loaded = load(tmp_path)
    assert not watch.differs(loaded)
    write(tmp_path, a=SERVICE + "\n")
    assert watch.differs(loaded)
    loaded = load(tmp_path)
    write(tmp_path, b=route("x"))
    assert watch.differs(loaded)
    loaded = load(tmp_path)
    (tmp_path / "b.toml").unlink()
    assert watch.differs(loaded)


def test_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYGATE_TEST_SECRET", "open sesame")
    (tmp_path / "secret").write_text("from a file\n")
    assert resolve("env:PYGATE_TEST_SECRET") == "open sesame"
    assert resolve(f"file:{tmp_path / 'secret'}") == "from a file"
    for wrong in ("env:PYGATE_NOT_SET", f"file:{tmp_path / 'none'}", "plain text", "env:"):
        with pytest.raises(SecretError):
            resolve(wrong)


def test_a_missing_credential_is_named_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYGATE_TEST_SECRET", raising=False)
    config = {"policies": {"a": {"api_key": {"keys": {"app": "env:PYGATE_TEST_SECRET"}}}}}
    with pytest.raises(SecretError, match=r"policies\.a\.api_key\.keys\.app: .*`PYGATE_TEST_SECRET`"):
        resolved(json.dumps(config).encode())


def test_credentials_are_hashed_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYGATE_TEST_SECRET", "open sesame")
    config: dict[str, Any] = {
        "policies": {
            "a": {"api_key": {"keys": {"app": "env:PYGATE_TEST_SECRET", "cron": "sha256:00"}}},
            "b": {"headers": {"request": {"set": {"x": "env:PYGATE_TEST_SECRET"}}}},
        },
        "ai": {"providers": {"p": {"credentials": {"main": "env:PYGATE_TEST_SECRET"}}}},
    }
    whole = json.loads(resolved(json.dumps(config).encode()))
    assert whole["ai"]["providers"]["p"]["credentials"] == {"main": "open sesame"}
    found = whole["policies"]
    assert found["a"]["api_key"]["keys"] == {
        "app": "sha256:" + hashlib.sha256(b"open sesame").hexdigest(),
        "cron": "sha256:00",
    }
    assert found["b"] == config["policies"]["b"]
    monkeypatch.delenv("PYGATE_TEST_SECRET")
    with pytest.raises(SecretError, match="PYGATE_TEST_SECRET"):
        resolved(json.dumps(config).encode())


def test_redaction_keeps_references_and_hides_the_rest() -> None:
    config = {
        "admin": {"token": "env:TOKEN", "address": "127.0.0.1:1"},
        "telemetry": {"headers": {"x-key": "literal", "y": "file:/run/y"}},
        "policies": {"p": {"api_key": {"keys": {"app": "sha256:abc", "cron": "env:CRON"}}}},
        "ai": {"providers": {"p": {"credentials": {"a": "sk-1", "b": "env:B"}, "headers": {"x-org": "secret"}}}},
    }
    shown = redact(config)
    assert shown["admin"] == config["admin"]
    assert shown["telemetry"]["headers"] == {"x-key": "(redacted)", "y": "file:/run/y"}
    assert shown["policies"]["p"]["api_key"]["keys"] == {"app": "(redacted)", "cron": "env:CRON"}
    provider = {"credentials": {"a": "(redacted)", "b": "env:B"}, "headers": {"x-org": "(redacted)"}}
    assert shown["ai"]["providers"]["p"] == provider


def test_starter_and_quickstart_are_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    starter = tmp_path / "pygate.toml"
    assert main(["init", str(starter)]) == 0
    assert main(["check", str(starter)]) == 0
    assert main(["init", str(starter)]) == 1
    assert main(["check", str(REPOSITORY / "examples" / "quickstart" / "pygate.toml")]) == 0


def test_schema_describes_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()
    assert "include" in schema()["properties"]
    tables = [schema(), *schema()["$defs"].values()]
    missing = [
        f"{table.get('title', '?')}.{key}"
        for table in tables
        for key, node in table.get("properties", {}).items()
        if "description" not in node and "$ref" not in node
    ]
    assert not missing


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250ms", 0.25), ("30s", 30.0), ("1.5m", 90.0), ("2h", 7200.0), ("10us", 1e-5), ("1d", 86400)],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("[::1]:8080", "::1", 8080, True),
        ("[::]:80", "::", 80, False),
        (":80", "0.0.0.0", 80, False),
        ("localhost:0", "localhost", 0, True),
        ("example.com:443", "example.com", 443, False),
    ],
)
def test_addresses(text: str, host: str, port: int, loopback: bool) -> None:
    address = Address.parse(text)
    assert (address.host, address.port, address.loopback, address.path) == (host, port, loopback, None)


@pytest.mark.parametrize("text", ["", "80", "a:b", "a:99999", "::1:80", "unix:", "http://a:80", "[::1]"])
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)


def test_packs_named_by_routes_are_part_of_the_revision(tmp_path: Path) -> None:
    rule = '[[rule]]\nid = "r"\npattern = "{}"\nscope = ["request"]\naction = "block"\nmatch = ["abc"]\n'
    pack = '[pack]\nname = "own"\nversion = "1"\n'
    (tmp_path / "packs").mkdir()
    own = tmp_path / "packs" / "own.toml"
    own.write_text(pack + rule.format("abc"))
    write(tmp_path, a=SERVICE + route("x") + 'guard.request = ["own"]\n[guard]\npacks = ["packs"]\n')
    first = load(tmp_path).ensure()
    assert own in first.files and json.loads(first.packs)[0]["pack"]["name"] == "own"
    own.write_text(pack + rule.format("abcd?"))
    assert watch.differs(first)
    assert load(tmp_path).ensure().revision != first.revision
    own.write_text(pack + rule.format("abc").replace("action", "acton"))
    assert {p.place.file for p in load(tmp_path).problems if p.place} == {own}
    write(tmp_path, a=SERVICE + route("x") + 'guard.request = ["pi"]\n')
    (problem,) = load(tmp_path).problems
    assert problem.nearest == "pii" and problem.place and problem.place.line == 7

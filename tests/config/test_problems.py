"""What is wrong with a configuration is said at the right place, in the right words, all at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pygate.cli.main import main
from pygate.config import load

REPOSITORY = Path(__file__).parents[2]

# text → line, column, words of the message or its notes.
CASES: dict[str, tuple[str, int, int, list[str]]] = {
    "unknown key": ('[entrypoints.web]\nadress = "x:1"\n', 2, 1, ["unknown key `adress`", "address"]),
    "unknown table": ("[server]\nx = 1\n", 1, 2, ["unknown key `server`", "services"]),
    "unknown key without a likeness": ("[admin]\nqqqq = 1\n", 2, 1, ["unknown key `qqqq`", "address or token"]),
    "two entrypoints on one address": (
        '[entrypoints.a]\naddress = "127.0.0.1:1"\n[entrypoints.b]\naddress = "127.0.0.1:1"\n',
        4,
        11,
        ["`entrypoints.b.address` is the address of `entrypoints.a.address`, too"],
    ),
    "collector without a scheme": ('[telemetry]\notlp = "collector:4318"\n', 2, 8, ["is not a URL", "http://"]),
    "missing key": ("[entrypoints.web]\nmax_fields = 1\n", 1, 14, ["lacks the key `address`"]),
    "duration": ('[workers]\ndrain_timeout = "soon"\n', 2, 17, ["not a duration", '"30s"', '"soon"']),
    "number for a duration": ("[workers]\ndrain_timeout = 30\n", 2, 17, ["must be a duration", "30"]),
    "size": ('[audit]\nsegment_size = "64 megs"\n', 2, 16, ["not a size", '"1MiB"']),
    "range": ("[workers]\ncount = 70000\n", 2, 9, ["out of range", "0 to 65535"]),
    "negative": ("[workers]\ncount = -1\n", 2, 9, ["out of range", "-1"]),
    "not finite": ("[telemetry]\nsample = nan\n", 2, 10, ["out of range"]),
    "type": ('[[routes]]\nname = "a"\npriority = "high"\n', 3, 12, ["whole number", '"high"']),
    "boolean": ('[[routes]]\nname = "a"\nexpose_revision = 1\n', 3, 19, ["true or false", "1"]),
    "enumeration": ('[telemetry]\nprotocol = "htpp"\n', 2, 12, ['"http" or "grpc"', "http"]),
    "untagged": ('[[routes]]\nname = "a"\nmatch = 3\n', 3, 9, ["a table or a string"]),
    "inside an untagged": ('[[routes]]\nname = "a"\nmatch.pth = "/"\n', 3, 7, ["unknown key `pth`", "path"]),
    "list item": ("[services.s]\nendpoints = [1]\n", 2, 14, ["a string or a table", "1"]),
    "item for a list": ('[services.s]\nendpoints = "http://a:1"\n', 2, 13, ["a list of strings or tables"]),
    "cidr": (
        '[entrypoints.w]\naddress = "a:1"\ntrusted_peers = ["10.0.0.0/99"]\n',
        3,
        18,
        ["CIDR block", "10.0.0.0/99"],
    ),
    "kind": ("[policies.p.header]\n", 1, 13, ["unknown kind `header`", "headers"]),
    "no kind": ("[policies.p]\n", 1, 11, ["exactly one kind"]),
    "two kinds": (
        "[policies.p]\nheaders = {}\nrate_limit = { rate = '1/s' }\n",
        1,
        11,
        ["exactly one kind", "`headers`, `rate_limit`"],
    ),
    "address": ('[entrypoints.w]\naddress = "8080"\n', 2, 11, ["not a listening address", "127.0.0.1:8080"]),
    "port": ('[entrypoints.w]\naddress = "a:70000"\n', 2, 11, ["above 65535"]),
    "admin open to everyone": ('[admin]\naddress = "0.0.0.0:9901"\n', 2, 11, ["open to everyone", "admin.token"]),
    "route twice": ('[[routes]]\nname = "a"\n[[routes]]\nname = "a"\n', 4, 8, ["two routes are called `a`", "2:8"]),
    "syntax": ('[admin]\naddress = "x\n', 2, 13, ["not TOML"]),
    "key twice": ("[workers]\ncount = 1\ncount = 2\n", 3, 1, ["not TOML", "duplicate key"]),
    "bad include": ("include = 3\n", 1, 11, ["list of strings"]),
    "missing include": ('include = ["gone.toml"]\n', 1, 12, ["gone.toml", "does not exist"]),
}


@pytest.mark.parametrize("name", CASES)
def test_problem_is_shown_where_it_stands(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, line, column, words = CASES[name]
    path = tmp_path / "pygate.toml"
    path.write_text(text)
    problems = load(path).problems
    assert len(problems) == 1, [p.as_dict() for p in problems]
    assert problems[0].place is not None
    assert (problems[0].place.line, problems[0].place.column) == (line, column)
    assert main(["check", str(path)]) == 2
    shown = capsys.readouterr().out
    assert f"pygate.toml:{line}:{column}" in shown
    for word in words:
        assert word in shown


def test_all_mistakes_of_the_example_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", str(REPOSITORY / "examples" / "broken.toml")]) == 2
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"] and result["revision"] is None
    assert len(result["problems"]) >= 20
    assert all(p["file"] and p["line"] for p in result["problems"])
    lines = [p["line"] for p in result["problems"]]
    assert lines == sorted(lines)


def test_a_literal_secret_is_refused_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pygate.toml"
    path.write_text('[admin]\ntoken = "hunter2-hunter2"\n')
    assert main(["check", str(path)]) == 2
    assert main(["check", "--json", str(path)]) == 2
    path.write_text("[admin]\ntoken = 424242\n")
    assert main(["check", str(path)]) == 2
    shown = capsys.readouterr().out
    assert "env:NAME" in shown and "hunter2" not in shown and "424242" not in shown


def test_plain_output_has_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", str(REPOSITORY / "examples" / "broken.toml")])
    assert "\x1b" not in capsys.readouterr().out


def test_missing_file_names_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none.toml")]) == 2
    assert "pygate init" in capsys.readouterr().out


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "pygate.toml"
    path.write_bytes(b"[admin]\n# \xff\n")
    assert [p.message for p in load(path).problems] == [f"`{path}` is not UTF-8 (byte 10)"]

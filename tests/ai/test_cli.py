"""What the command line prints, without a gateway: it works on the store by itself."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pygate.ai.store import Store
from pygate.ai.usage import Ledger, add_up
from pygate.cli.main import main
from tests.ai.calls import call

CONFIG = '[entrypoints.web]\naddress = "127.0.0.1:0"\n[admin]\naddress = "unix:{}/admin.sock"\n'


class Terminal:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What a command prints on the one stream that it may use."""
        assert main(arguments) == code
        out, error = self._capsys.readouterr()
        assert not (out and error)
        return out or error


@pytest.fixture
def pygate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pygate.toml").write_text(CONFIG.format(tmp_path))
    return Terminal(capsys)


def test_keys_from_create_to_revoke(pygate: Terminal) -> None:
    assert pygate("teams", "create", "platform", "--limit", "usd:month:500") == (
        "ok: team platform, limits usd:month:500.00\n"
    )
    told = pygate("keys", "create", "ci", "--team", "platform", "--model", "fast", "--limit", "requests:minute:9")
    plain = told.splitlines()[0]
    assert plain.startswith("pk-") and "shown this once" in told and told.count(plain) == 1
    assert "in force" not in told, "no gateway has taken it"
    listed = pygate("keys", "list").splitlines()
    assert listed[0].split() == ["ID", "NAME", "KEY", "STATE", "TEAM", "PROJECT", "MODELS", "EXPIRES", "LIMITS"]
    key_id, *rest = listed[1].split()
    assert rest == ["ci", plain[:9], "active", "platform", "-", "fast", "never", "requests:minute:9"]

    shown = pygate("keys", "show", plain)
    for words in (["team:platform", "usd", "month", "500.00", "0.00", "0%"], [f"key:{key_id}", "requests", "minute"]):
        assert any(line.split()[: len(words)] == words for line in shown.splitlines()), shown
    changed = pygate("keys", "set", "ci", "--limit", "usd:day:2.5", "--no-limit", "requests:minute", "--all-models")
    assert "limits   usd:day:2.50\n" in changed and "all of the route" in changed
    rotated = pygate("keys", "rotate", "ci", "--overlap", "2d")
    assert "accepted until" in rotated and plain not in rotated
    assert pygate("keys", "revoke", key_id) == f"ok: key ci ({key_id}) is revoked\n"
    assert pygate("keys", "list") == "no keys; `pygate keys create NAME` makes one\n"
    assert "revoked" in pygate("keys", "list", "--all")


def test_the_same_in_json(pygate: Terminal) -> None:
    made = json.loads(pygate("keys", "create", "ci", "--expires", "2099-01-31", "--json"))
    assert (made["expires"], len(made["key"])) == (4_073_500_800, 53)
    assert json.loads(pygate("keys", "list", "--json"))["keys"] == [{k: v for k, v in made.items() if k != "key"}]
    error = json.loads(pygate("keys", "show", "cI", "--json", code=2))["error"]
    assert error == {"message": "no key `cI`", "expected": None, "nearest": "ci"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("keys create x --team platfrom", "no team `platfrom`\n  did you mean `platform`?\n  expected one that exists"),
        ("keys create x --limit usd:mnth:5", "'mnth' is not a window\n  did you mean `month`?"),
        ("keys create x --limit usd:month:5e3", "expected a decimal number such as 50.00"),
        ("keys create x --expires soon", "`expires` is not a time: 'soon'"),
        ("keys create x --max-output-tokens many", "`max_output_tokens` is 'many'"),
        ("keys set ci --no-limit usd:day", "there is no limit usd:day\n  expected one of those there are (none)"),
        ("keys rotate ci --overlap later", "`overlap` is not a span of time"),
        ("keys show pk-aaaaaa", "no key `pk-aaaaaa`"),
        ("teams remove platform", "team `platform` has 1 key"),
        ("teams show platfrom", "did you mean `platform`?"),
        ("projects show any", "no project `any`"),
        ("usage --by modle", "did you mean `model`?"),
        ("usage --key c", "no key `c`"),
    ],
)
def test_what_is_asked_wrongly(pygate: Terminal, arguments: str, text: str) -> None:
    pygate("teams", "create", "platform")
    pygate("keys", "create", "ci", "--team", "platform")
    told = pygate(*arguments.split(), code=2)
    assert told.startswith("error: ") and text in told


def test_usage_as_a_table(pygate: Terminal, tmp_path: Path) -> None:
    key = json.loads(pygate("keys", "create", "ci", "--json"))
    store = Store.open(f"sqlite:{tmp_path}/run/audit/keys.db")
    calls = [call(time.time(), key=key["id"])] * 1_000 + [call(time.time(), key="key_gone", nano_usd=None)]
    Ledger(store.database).add("x", {}, {"w": (1, 1, 1)}, add_up(calls))
    store.close()
    _, heads, *rows, total = pygate("usage", "--since", "1d").splitlines()
    assert heads.split()[:2] == ["KEY", "REQUESTS"]
    assert [row.split() for row in rows] == [
        ["ci", f"({key['id']})", "1,000", "0", "0", "100,000", "40,000", "20,000", "5,000", "0.0015", "0"],
        ["?", "(key_gone)", "1", "0", "0", "100", "40", "20", "5", "0.00", "1"],
    ]
    assert total.split()[:2] == ["all", "1,001"]
    told = json.loads(pygate("usage", "--by", "team,model", "--key", key["key"], "--json"))
    assert [(row["team"], row["model"], row["usd"]) for row in told["rows"]] == [("platform", "fast", "0.0015")]


def test_without_gateway_and_store_it_says_what_to_do(pygate: Terminal, tmp_path: Path) -> None:
    assert "there is no store at sqlite:" in pygate("keys", "list", code=1)
    assert not (tmp_path / "run").exists()
    (tmp_path / "pygate.toml").write_text("[workerz]\n")
    assert "did you mean `workers`" in pygate("keys", "list", code=2)
    (tmp_path / "pygate.toml").unlink()
    told = pygate("keys", "list", "--admin", f"unix:{tmp_path}/none.sock", code=1)
    assert "no gateway answers at" in told and "give -c CONFIG" in told
    assert "--admin: " in pygate("usage", "--admin", "nowhere", code=1)


@pytest.mark.parametrize("verb", ["keys", "teams", "projects", "usage"])
def test_help_has_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "examples:\n" in out and out.count(f"  pygate {verb} ") >= 4

"""`[ai]` as a user meets it: credentials by reference, mistakes, and prices as a part of the revision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pygate.ai import prices
from pygate.cli.main import main
from pygate.config import load
from pygate.config.providers import literal_credentials

REPOSITORY = Path(__file__).parents[2]

PROVIDER = '[ai.providers.openai]\nkind = "openai"\n'
MODEL = '[ai.models.fast]\ntargets = ["openai/gpt-5-mini"]\n'
ROUTE = '[[routes]]\nname = "chat"\nmatch = { path = "/v1/**" }\nllm = {}\n'


def write(directory: Path, text: str) -> Path:
    path = directory / "pygate.toml"
    path.write_text(text)
    return path


def test_a_literal_credential_is_refused_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, PROVIDER + 'credentials = { a = "sk-proj-hunter2", b = "env:KEY" }\n' + MODEL + ROUTE)
    assert main(["check", str(path)]) == 2
    assert main(["check", "--json", str(path)]) == 2
    shown = capsys.readouterr().out
    assert "ai.providers.openai.credentials.a" in shown and "env:OPENAI_API_KEY" in shown
    assert "hunter2" not in shown and "credentials.b" not in shown


@pytest.mark.parametrize("ai", [None, 3, [], {"providers": 3}, {"providers": {"p": 3}}, {"providers": {"p": {}}}])
def test_other_shapes_are_the_schemas_business(ai: Any) -> None:
    assert literal_credentials({"ai": ai}) == []
    assert literal_credentials({"ai": {"providers": {"p": {"credentials": {"a": 3, "b": "file:/run/b"}}}}}) == []
    (problem,) = literal_credentials({"ai": {"providers": {"big.co": {"credentials": {"a": ""}}}}})
    assert problem.help == 'write a = "env:BIG_CO_API_KEY" and set that variable'


MISTAKES = {
    "kind": (PROVIDER.replace('"openai"', '"opena"') + MODEL, "ai.providers.openai.kind", "openai"),
    "key": (PROVIDER + 'regoin = "eu"\n' + MODEL, "ai.providers.openai.regoin", "region"),
    "provider": (PROVIDER + MODEL.replace('"openai/', '"opnai/'), "ai.models.fast.targets[0]", "openai"),
    "no provider": (PROVIDER + MODEL.replace("openai/", ""), "ai.models.fast.targets[0]", None),
    "target": (
        PROVIDER + '[ai.models.fast]\ntargets = [{ provider = "openai", model = "m", wieght = 2 }]\n',
        "ai.models.fast.targets[0].wieght",
        "weight",
    ),
    "address": (PROVIDER.replace('"openai"', '"azure"') + MODEL, "ai.providers.openai.base_url", None),
    "region": (PROVIDER.replace('"openai"', '"bedrock"') + MODEL, "ai.providers.openai.region", None),
    "price": (
        PROVIDER + MODEL + '[ai.prices]\n"gpt-5-mini" = { input = "cheap" }\n',
        "ai.prices.gpt-5-mini.input",
        None,
    ),
    "price name": (PROVIDER + MODEL + '[ai.prices]\ng = { inptu = "1" }\n', "ai.prices.g.inptu", "input"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_where_they_are(name: str, tmp_path: Path) -> None:
    text, path, nearest = MISTAKES[name]
    problems = {p.path: p for p in load(write(tmp_path, text + ROUTE)).problems}
    assert path in problems, problems
    assert problems[path].place is not None and problems[path].nearest == nearest


def test_a_route_names_models_that_are_there(tmp_path: Path) -> None:
    (problem,) = load(write(tmp_path, PROVIDER + MODEL + ROUTE.replace("{}", '{ models = ["fasd"] }'))).problems
    assert (problem.path, problem.nearest) == ("routes[0].llm.models[0]", "fast")


def test_prices_are_part_of_the_canonical_form_and_the_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, PROVIDER + MODEL + ROUTE)
    before = load(path).ensure()
    shipped = prices.models("openai")["gpt-5-mini"]
    assert json.loads(before.json)["ai"]["prices"] == {"openai/gpt-5-mini": shipped}
    assert before.warnings == []
    dearer = {**prices.models("openai"), "gpt-5-mini": {**shipped, "input": "9"}}
    monkeypatch.setattr(prices, "models", lambda kind: dearer)
    after = load(path).ensure()
    assert after.revision != before.revision


def test_a_price_that_is_not_known_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, PROVIDER + MODEL.replace("5-mini", "77") + ROUTE)
    assert main(["check", "--no-files", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "warning: no price of `openai/gpt-77` is known" in shown and "pygate.toml:4:" in shown
    assert main(["check", "--no-files", "--json", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] and [w["path"] for w in told["warnings"]] == ["ai.models.fast.targets[0]"]
    with path.open("a") as file:
        file.write('[ai.prices]\n"openai/gpt-77" = { input = "0", output = "0" }\n')
    assert main(["check", "--no-files", str(path)]) == 0
    assert "warning" not in capsys.readouterr().out


def test_a_provider_is_added_by_a_file(tmp_path: Path) -> None:
    write(tmp_path, PROVIDER + MODEL + ROUTE)
    (tmp_path / "z.toml").write_text('[ai.providers.mine]\nkind = "compatible"\nbase_url = "http://127.0.0.1:9/v1"\n')
    assert sorted(load(tmp_path).ensure().value["ai"]["providers"]) == ["mine", "openai"]


def test_the_example_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--no-files", str(REPOSITORY / "examples" / "ai.toml")]) == 0
    assert capsys.readouterr().out.startswith("ok: ")

"""The price catalogue: what it holds, how a model is found, how it is made."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pygate.ai import prices
from pygate.ai.prices.generate import FIELDS, SOURCES, catalogue, doubts, render
from pygate.config.providers import fill_prices

FILES = sorted(Path(prices.__file__).parent.glob("*.toml"))


def test_every_kind_with_list_prices_has_a_file() -> None:
    assert {file.stem for file in FILES} == set(SOURCES)
    assert all(len(prices.models(kind)) >= 7 for kind in SOURCES)
    assert prices.models("vllm") == {} and prices.find("vllm", "gpt-5") is None


@pytest.mark.parametrize("kind", SOURCES)
def test_every_price_is_an_exact_decimal_that_is_not_zero(kind: str) -> None:
    for model, table in prices.models(kind).items():
        tiers = table.get("tiers", [])
        assert set(table) - {"tiers"} <= set(FIELDS) and "input" in table, model
        for tier in tiers:
            assert isinstance(tier["above"], int) and tier["above"] >= 100_000, model
            assert set(tier) - {"above"} <= set(FIELDS), model
        for rates in (table, *tiers):
            for name in set(rates) & set(FIELDS):
                text = rates[name]
                assert isinstance(text, str) and text == text.strip() and "e" not in text.lower(), (model, name)
                assert Decimal(text) > 0 and -Decimal(text).as_tuple().exponent <= 6, (model, name)  # type: ignore[operator]
                # Nothing costs more than 1,000 USD for a million tokens: a slip by a thousand would.
                assert Decimal(text) < 1000, (model, name)
        assert Decimal(table.get("cached_read", 0)) <= Decimal(table["input"]), model


@pytest.mark.parametrize(
    ("kind", "model", "region", "like"),
    [
        ("openai", "gpt-5", None, "gpt-5"),
        ("openai", "gpt-5-2031-01-31", None, "gpt-5"),
        ("openai", "gpt-4o-2024-05-13", None, "gpt-4o-2024-05-13"),
        ("openai", "ft:gpt-4.1-2025-04-14:acme::B1x", None, "ft:gpt-4.1-2025-04-14"),
        ("anthropic", "claude-opus-5-20991231", None, "claude-opus-5"),
        ("vertex", "gemini-2.5-pro@20991231", None, "gemini-2.5-pro"),
        ("bedrock", "anthropic.claude-opus-4-6-v1", "eu-central-1", "anthropic.claude-opus-4-6-v1"),
        ("bedrock", "deepseek.v3.2", "eu-north-1", "eu-north-1/deepseek.v3.2"),
        ("bedrock", "jp.deepseek.v3.2", "sa-east-9", "deepseek.v3.2"),
        (
            "bedrock",
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-5-5",
            "eu-west-1",
            "eu.anthropic.claude-sonnet-5-5",
        ),
    ],
)
def test_a_model_is_found(kind: str, model: str, region: str | None, like: str) -> None:
    listed = prices.models(kind)
    assert prices.find(kind, model, region) == listed[like]


def test_the_more_exact_name_has_a_price_of_its_own() -> None:
    old, new = prices.find("openai", "gpt-4o-2024-05-13"), prices.find("openai", "gpt-4o")
    assert old and new and old["input"] != new["input"]


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("openai", "gpt-5-nonsense"),
        ("openai", "claude-opus-5"),
        ("openai", "gpt-5-2031"),
        ("openai", "../anthropic"),
        ("compatible", "gpt-5"),
    ],
)
def test_what_is_not_listed_has_no_price(kind: str, model: str) -> None:
    assert prices.find(kind, model) is None


def ai(**prices: dict[str, str]) -> dict[str, Any]:
    return {
        "ai": {
            "providers": {"main": {"kind": "openai"}, "own": {"kind": "vllm"}},
            "models": {
                "fast": {"targets": ["main/gpt-5-mini", {"provider": "own", "model": "qwen/coder"}]},
                "same": {"targets": ["own/qwen/coder", "none/of-these"]},
            },
            "prices": prices,
        }
    }


def test_targets_get_the_catalogues_price_and_the_rest_is_told() -> None:
    value = ai()
    (told,) = fill_prices(value)
    assert value["ai"]["prices"] == {"main/gpt-5-mini": prices.models("openai")["gpt-5-mini"]}
    assert told.path == "ai.models.fast.targets[1]"
    assert "own/qwen/coder" in told.message and 'ai.prices."own/qwen/coder"' in (told.help or "")


@pytest.mark.parametrize("name", ["main/gpt-5-mini", "gpt-5-mini"])
def test_the_users_price_goes_first(name: str) -> None:
    mine = {name: {"input": "7"}, "qwen/coder": {"input": "0", "output": "0"}}
    value = ai(**mine)
    assert fill_prices(value) == []
    assert value["ai"]["prices"] == mine


def test_without_models_nothing_is_added() -> None:
    value: dict[str, Any] = {"routes": []}
    assert fill_prices(value) == [] and value == {"routes": []}


LISTED: dict[str, dict[str, Any]] = {
    "m": {"input_cost_per_token": Decimal("1.25e-06"), "output_cost_per_token": Decimal("1e-05")},
    "cached": {
        "input_cost_per_token": Decimal("2e-06"),
        "output_cost_per_token": Decimal("8e-06"),
        "output_cost_per_reasoning_token": Decimal("8e-06"),
        "cache_read_input_token_cost": Decimal("2e-07"),
        "cache_creation_input_token_cost": Decimal("0.0"),
        "input_cost_per_token_above_200k_tokens": Decimal("4e-06"),
    },
    "free": {"input_cost_per_token": Decimal("0.0"), "output_cost_per_token": Decimal("0.0")},
    "half": {"input_cost_per_token": Decimal("1e-06")},
    "vector": {"input_cost_per_token": Decimal("2e-08"), "mode": "embedding"},
    "picture": {"input_cost_per_token": Decimal("1e-06"), "mode": "image_generation"},
    "other": {"input_cost_per_token": Decimal("1e-06"), "output_cost_per_token": Decimal("1"), "provider": "groq"},
}


def test_generating_keeps_decimals_and_leaves_out_what_is_not_known() -> None:
    listed = {name: {"provider": "openai", "mode": "chat", **facts} for name, facts in LISTED.items()}
    found = catalogue(listed, "openai")
    assert found == {
        "cached": {
            "input": "2",
            "output": "8",
            "cached_read": "0.2",
            "tiers": [{"above": 200_000, "input": "4", "cached_read": "0.4"}],
        },
        "m": {"input": "1.25", "output": "10"},
        "vector": {"input": "0.02"},
    }
    assert list(doubts("openai", found)) == []
    listed["m"]["output_cost_per_token"] = Decimal("1e-07")
    assert list(doubts("openai", catalogue(listed, "openai"))) == ["openai/m: output 0.1, input 1.25"]


@pytest.mark.parametrize("kind", SOURCES)
def test_files_are_as_the_generator_writes_them(kind: str) -> None:
    file = Path(prices.__file__).with_name(f"{kind}.toml")
    assert file.read_text() == render(kind, prices.models(kind), "2026-11")

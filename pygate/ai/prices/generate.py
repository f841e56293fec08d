"""Writes the price catalogue, a file per kind of provider, from a price map as LiteLLM publishes it.

    python -m pygate.ai.prices.generate CATALOGUE.json 2026-11

Rules:

1. Prices are decimals from the first byte to the last; no float ever holds one.
2. What the map does not say, or says in a unit that cannot be expressed (per image, second or character), stays out:
   an absent price is unknown. So does a price of zero – it stands for "not published" far more often than for "free".
3. What is wrong in the map is corrected in `CORRECTIONS` with the reason, never in the files. What looks wrong
   (`doubts`) is printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

MODES = frozenset({"chat", "completion", "embedding", "responses"})

#: Our name of a price, and the map's.
FIELDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_read": "cache_read_input_token_cost",
    "cached_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
    "audio_input": "input_cost_per_audio_token",
    "audio_output": "output_cost_per_audio_token",
    "image": "output_cost_per_image_token",
}
#: Bounds of tiers, in thousands of prompt tokens.
TIERS = (100, 128, 200, 272)


class Source(NamedTuple):
    """Where a kind's models are in the map."""

    providers: tuple[str, ...]
    #: Taken off the map's names; the first that fits.
    prefixes: tuple[str, ...] = ()


SOURCES = {
    "openai": Source(("openai",)),
    "azure": Source(("azure",), ("azure/global-standard/", "azure/global/", "azure/")),
    "anthropic": Source(("anthropic",)),
    "gemini": Source(("gemini",), ("gemini/",)),
    "vertex": Source(("vertex_ai-language-models",), ("vertex_ai/",)),
    "bedrock": Source(("bedrock", "bedrock_converse"), ("bedrock/",)),
    "mistral": Source(("mistral",), ("mistral/",)),
    "cohere": Source(("cohere", "cohere_chat"), ("cohere/",)),
    "groq": Source(("groq",), ("groq/",)),
    "deepseek": Source(("deepseek",), ("deepseek/",)),
    "xai": Source(("xai",), ("xai/",)),
    "together": Source(("together_ai",), ("together_ai/",)),
    "fireworks": Source(("fireworks_ai",), ("fireworks_ai/",)),
}

#: Entries of the map that are no model, or whose price cannot be told from it.
LEFT_OUT = {
    "gemini-exp-1206": "listed twice, as free and at the price of another model",
    "fireworks_ai/accounts/fireworks/models/flux-1-dev-controlnet-union": "makes images; listed as chat",
}

#: Entry → price → what it should be (None: unknown).
CORRECTIONS: dict[str, dict[str, str | None]] = {
    # A thousand times that of its siblings: the price per thousand tokens was taken for that of a token.
    "embed-multilingual-light-v3.0": {"input": "0.1"},
    # What a read from the cache costs, under the name of a write; OpenAI does not charge for writes.
    "ft:gpt-4o-2024-11-20": {"cached_read": "1.875", "cached_write": None},
}


def catalogue(listed: dict[str, dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """The prices of a kind's models, by the provider's name of the model."""
    source = SOURCES[kind]
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for name, facts in listed.items():
        if facts.get("provider") not in source.providers or facts.get("mode") not in MODES or name in LEFT_OUT:
            continue
        cut = next((n for n, prefix in enumerate(source.prefixes) if name.startswith(prefix)), len(source.prefixes))
        bare = name.removeprefix(source.prefixes[cut]) if cut < len(source.prefixes) else name
        prices = _corrected(name, _prices(facts))
        if not _is_name(kind, bare) or "input" not in prices:
            continue
        if facts["mode"] != "embedding" and "output" not in prices:
            continue
        # Listed under several prefixes: the plainest entry counts.
        rank = -cut if kind == "azure" else cut
        if bare not in found or rank < found[bare][0]:
            found[bare] = (rank, prices)
    return {name: found[name][1] for name in sorted(found)}


def _is_name(kind: str, bare: str) -> bool:
    """Whether a provider's API takes it as the name of a model."""
    if kind == "bedrock":
        # `REGION/MODEL`; prices of commitments are per hour.
        return "commitment" not in bare and not bare.startswith("invoke/") and bare.count("/") <= 1
    if kind == "azure":
        return "/" not in bare
    if kind in ("together", "fireworks"):
        # Prices by size of the model are listed among models.
        return not bare.startswith(("together-ai-", "fireworks-ai-"))
    return True


def _prices(facts: dict[str, Any]) -> dict[str, Any]:
    prices: dict[str, Any] = {ours: rate for ours, theirs in FIELDS.items() if (rate := _rate(facts.get(theirs)))}
    if prices.get("reasoning") == prices.get("output"):
        prices.pop("reasoning", None)
    tiers = []
    for bound in TIERS:
        names = {ours: f"{theirs}_above_{bound}k_tokens" for ours, theirs in FIELDS.items()}
        tier: dict[str, Any] = {ours: rate for ours, theirs in names.items() if (rate := _rate(facts.get(theirs)))}
        if not tier:
            continue
        if "input" in tier and "cached_read" in prices:
            # Providers raise the price of reads by the factor of the prompt's; the lower price would be too little.
            factor = Decimal(tier["input"]) / Decimal(prices["input"])
            tier.setdefault("cached_read", _decimal(Decimal(prices["cached_read"]) * factor))
        tiers.append({"above": bound * 1000, **{name: tier[name] for name in FIELDS if name in tier}})
    if tiers:
        prices["tiers"] = tiers
    return prices


def _corrected(name: str, prices: dict[str, Any]) -> dict[str, Any]:
    fixed = {**prices, **CORRECTIONS.get(name, {})}
    return {name: fixed[name] for name in (*FIELDS, "tiers") if fixed.get(name) is not None}


def _rate(per_token: Any) -> str | None:
    """USD per million tokens; None for what is absent or zero."""
    return _decimal(Decimal(per_token) * 1_000_000) if per_token else None


def _decimal(rate: Decimal) -> str:
    text = f"{rate.quantize(Decimal('0.000001')):f}"
    return text.rstrip("0").rstrip(".")


def doubts(kind: str, prices: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What a person should look at."""
    for model, table in prices.items():
        rates = {name: Decimal(rate) for name, rate in table.items() if name != "tiers"}
        given, made = rates["input"], rates.get("output")
        cheaper = [f"{name} {rates[name]}" for name in ("cached_write",) if rates.get(name, given) < given]
        dearer = [f"{name} {rates[name]}" for name in ("cached_read",) if rates.get(name, given) > given]
        if made is not None and not given <= made <= 15 * given:
            yield f"{kind}/{model}: output {made}, input {given}"
        if cheaper or dearer or given > 60:
            yield f"{kind}/{model}: {', '.join([*cheaper, *dearer, f'input {given}'])}"
        for tier in table.get("tiers", ()):
            if Decimal(tier.get("input", "inf")) <= given:
                yield f"{kind}/{model}: above {tier['above']} tokens not dearer"


def render(kind: str, prices: dict[str, dict[str, Any]], month: str) -> str:
    """A file of the catalogue."""
    lines = [
        f"# List prices of {kind} in USD per million tokens, as published in {month}.",
        "# Facts collected in LiteLLM's MIT-licensed price map (1.106.2); see README.md. Made by generate.py.",
        f'kind = "{kind}"',
        f'date = "{month}"',
        "",
        "[models]",
    ]
    return "\n".join([*lines, *(f"{json.dumps(model)} = {_table(prices[model])}" for model in prices)]) + "\n"


def _table(table: dict[str, Any]) -> str:
    parts = []
    for name, value in table.items():
        text = f"[{', '.join(map(_table, value))}]" if name == "tiers" else json.dumps(value)
        parts.append(f"{name} = {text}")
    return "{ " + ", ".join(parts) + " }"


def main(arguments: list[str]) -> int:
    """Writes every file beside this module."""
    listed = json.loads(Path(arguments[0]).read_bytes(), parse_float=Decimal)
    for kind in SOURCES:
        prices = catalogue(listed, kind)
        Path(__file__).with_name(f"{kind}.toml").write_text(render(kind, prices, arguments[1]), encoding="utf-8")
        print(f"{kind}: {len(prices)} models")
        for doubt in doubts(kind, prices):
            print(f"  doubtful: {doubt}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

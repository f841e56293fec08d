"""What Python knows of `[ai]`: credentials are references, and targets get prices from the catalogue.

Rules:

1. A price in `[ai.prices]` – of `provider/model`, or of `model` at every provider – goes before the catalogue.
2. Prices are filled in before a revision gets its name: who reads it years later sees what a call was priced by.
3. What has no price is told. It stays without one and is never free.

Names that lead nowhere are the compiler's business and passed over here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pygate.ai import prices
from pygate.config.problem import Problem
from pygate.config.secrets import is_reference

#: Addresses are known where nothing else is given (`core::ai::provider`): those that are not `https`.
_LOCAL = frozenset({"ollama", "vllm"})


def literal_credentials(value: dict[str, Any]) -> list[Problem]:
    """Credentials that are the secret itself. `value` may be of any shape."""
    problems = []
    for name, provider in _tables(_tables_of(value, "ai", "providers")):
        for credential, text in _members(provider.get("credentials")):
            if not isinstance(text, str) or is_reference(text):
                continue
            variable = "".join(c if c.isascii() and c.isalnum() else "_" for c in f"{name}_api_key").upper()
            problems.append(
                Problem(
                    f"ai.providers.{name}.credentials.{credential}",
                    f"`ai.providers.{name}.credentials.{credential}` must be a reference, not the secret itself",
                    expected="`env:NAME` or `file:PATH`",
                    help=f'write {credential} = "env:{variable}" and set that variable',
                )
            )
    return problems


def fill_prices(value: dict[str, Any]) -> list[Problem]:
    """Puts the catalogue's price of every target of `[ai.models]` into `[ai.prices]`.

    `value` has passed the schema, and is changed. Told are the targets that have no price.
    """
    ai = value.get("ai", {})
    given = ai.get("prices", {})
    found: dict[str, Any] = {}
    unknown: dict[str, Problem] = {}
    for path, provider, model in targets(value):
        name = f"{provider}/{model}"
        settings = ai.get("providers", {}).get(provider)
        if settings is None or name in given or model in given:
            continue
        price = prices.find(settings["kind"], model, settings.get("region"))
        if price is not None:
            found[name] = price
            continue
        unknown.setdefault(
            name,
            Problem(
                path,
                f"no price of `{name}` is known: its calls cannot be counted in money",
                help=f'set ai.prices."{name}" = {{ input = "0.50", output = "1.50" }}, in USD per million tokens',
            ),
        )
    if found:
        ai["prices"] = {**given, **found}
    return list(unknown.values())


def targets(value: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Path, provider and model of every target. `value` has passed the schema."""
    for name, model in value.get("ai", {}).get("models", {}).items():
        for index, target in enumerate(model.get("targets", [])):
            path = f"ai.models.{name}.targets[{index}]"
            if isinstance(target, str):
                provider, _, own = target.partition("/")
                yield path, provider, own
            else:
                yield path, target["provider"], target["model"]


def wants_system_roots(value: dict[str, Any]) -> bool:
    """Whether a provider is reached by TLS without a service, whose `tls.ca` could say whom to trust."""
    for _, provider in _tables(_tables_of(value, "ai", "providers")):
        if provider.get("service"):
            continue
        url = provider.get("base_url") or ""
        if url.lower().startswith("https:") or (not url and provider.get("kind") not in _LOCAL):
            return True
    return False


def kinds(value: dict[str, Any]) -> dict[str, str]:
    """Name → kind of every provider."""
    return {name: str(provider.get("kind", "")) for name, provider in _tables(_tables_of(value, "ai", "providers"))}


def serves_models(value: dict[str, Any]) -> bool:
    """Whether a route is one of the AI gateway's."""
    return any(isinstance(route, dict) and route.get("llm") is not None for route in value.get("routes", ()))


def _tables_of(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _members(table: Any) -> Iterator[tuple[str, Any]]:
    yield from table.items() if isinstance(table, dict) else ()


def _tables(table: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, item in _members(table):
        if isinstance(item, dict):
            yield name, item

"""The price catalogue that comes with pygate, and how a model of a provider is found in it.

Rules:

1. A price that is not known is None. It is never guessed from another provider's price, and never zero.
2. The name as configured comes first. Only then are fine-tuned models, snapshots (a date at the end of the name) and
   Bedrock's region prefixes taken for the model they are of.
3. Prices are decimals as text, as `[ai.prices]` has them: an entry can be copied into a configuration as it is.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: `-2026-01-31`, `-20260131`, `@20260131`, `@default` at the end of a model's name.
_SNAPSHOT = re.compile(r"(?:-20\d{2}-\d{2}-\d{2}|[-@]20\d{6}|@default)$")
#: Bedrock's profiles that spread calls over regions (`eu.anthropic.…`).
_PROFILE = re.compile(r"(?:us-gov|us|eu|apac|global|jp|au|ca)\.")


def find(kind: str, model: str, region: str | None = None) -> dict[str, Any] | None:
    """Prices of a model by the `kind` of its provider, in the shape of an entry of `[ai.prices]`."""
    listed = models(kind)
    if not listed:
        return None
    return next((listed[name] for name in _names(kind, model, region) if name in listed), None)


@functools.cache
def models(kind: str) -> dict[str, dict[str, Any]]:
    """All models of a kind that have a price; none for kinds whose prices nobody publishes (`vllm`)."""
    file = Path(__file__).with_name(f"{kind}.toml")
    if not file.is_file():
        return {}
    found: dict[str, dict[str, Any]] = tomllib.loads(file.read_text(encoding="utf-8"))["models"]
    return found


def _names(kind: str, model: str, region: str | None) -> Iterator[str]:
    """Names to look for, the most exact first."""
    for name in (model, _SNAPSHOT.sub("", model)):
        if kind == "bedrock":
            # An ARN ends in the model or profile.
            name = name.rpartition("/")[2]
            if region:
                yield f"{region}/{name}"
            yield name
            yield _PROFILE.sub("", name, count=1)
        else:
            yield name
            if name.startswith("ft:"):
                # `ft:BASE:ORGANISATION::ID`
                yield ":".join(name.split(":")[:2])

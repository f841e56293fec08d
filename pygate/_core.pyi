"""Types of the Rust extension (`rust/py`)."""

from typing import Any

_Place = tuple[int, int, int]

def read_toml(text: str) -> tuple[dict[str, Any], dict[str, tuple[_Place, _Place]]]:
    """`(value, {path: (key, value)})`, places as (line, column, length); ValueError(message, line, column, length)."""

def schema() -> str:
    """JSON Schema of the configuration."""

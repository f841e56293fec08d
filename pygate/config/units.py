"""Units of text as the control process needs them; `core::config::units` is the definition."""

from __future__ import annotations

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """`"250ms"` → 0.25. Raises `ValueError` on text that the schema would have refused."""
    text = text.strip()
    number = text.rstrip("usmhd")
    unit = text[len(number) :]
    if unit not in _SECONDS:
        raise ValueError(f"{text!r} is not a duration")
    return float(number) * _SECONDS[unit]

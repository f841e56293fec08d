"""Limits: how much of what in which calendar window, and when windows begin. All times are unix seconds in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pygate.ai import money
from pygate.ai.refusal import Refusal, nearest

KINDS = ("requests", "input_tokens", "output_tokens", "total_tokens", "nano_usd")
WINDOWS = ("minute", "hour", "day", "week", "month")
#: As people call them.
_SPOKEN = {"usd": "nano_usd", "tokens": "total_tokens", "input": "input_tokens", "output": "output_tokens"}
_SHOWN = ("requests", "input_tokens", "output_tokens", "total_tokens", "usd")

EXPECTED = "KIND:WINDOW:MAX such as requests:minute:100, total_tokens:day:1000000 or usd:month:50.00"

MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclass(frozen=True, order=True)
class Limit:
    """At most `max` of `kind` in each `window`; money in nano-USD."""

    kind: str
    window: str
    max: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON; money also as decimal text."""
        told: dict[str, Any] = {"kind": self.kind, "window": self.window, "max": self.max}
        return told | {"usd": money.usd(self.max)} if self.kind == "nano_usd" else told

    def __str__(self) -> str:
        if self.kind == "nano_usd":
            return f"usd:{self.window}:{money.usd(self.max)}"
        return f"{self.kind}:{self.window}:{self.max}"


def parse(text: str) -> Limit:
    """Reads `KIND:WINDOW:MAX`. Raises `Refusal`."""
    parts = text.strip().split(":")
    if len(parts) != 3:
        raise Refusal(f"{text!r} is not a limit", expected=EXPECTED)
    return _limit(*parts)


def parse_place(text: str) -> tuple[str, str]:
    """Reads `KIND:WINDOW`, which names a limit without its size. Raises `Refusal`."""
    parts = text.strip().split(":")
    if len(parts) != 2:
        raise Refusal(f"{text!r} does not name a limit", expected="KIND:WINDOW such as usd:month")
    return _kind(parts[0]), _window(parts[1])


def read(value: Any) -> Limit:
    """A limit of a JSON request: text as for `parse`, or a table of `kind`, `window` and `max`. Raises `Refusal`."""
    if isinstance(value, str):
        return parse(value)
    if not isinstance(value, dict) or not {"kind", "window", "max"} <= set(value) <= {"kind", "window", "max", "usd"}:
        raise Refusal("a limit is a table of kind, window and max, or text", expected=EXPECTED)
    most = value["max"]
    if isinstance(most, float):
        raise Refusal("`max` of a limit is never a float", expected='a whole number, or money as text: "50.00"')
    if isinstance(most, bool) or not isinstance(most, int | str):
        raise Refusal("`max` of a limit is a whole number or text", expected=EXPECTED)
    if value["kind"] == "nano_usd" and isinstance(most, int) and 0 <= most <= money.MOST:
        return Limit("nano_usd", _window(str(value["window"])), most)
    return _limit(str(value["kind"]), str(value["window"]), str(most))


def read_all(values: Any) -> tuple[Limit, ...]:
    """Several limits, one per kind and window. Raises `Refusal`."""
    if not isinstance(values, list):
        raise Refusal("`limits` is a list", expected=EXPECTED)
    found: dict[tuple[str, str], Limit] = {}
    for value in values:
        limit = read(value)
        if (limit.kind, limit.window) in found:
            raise Refusal(f"two limits on {_shown(limit.kind)} per {limit.window}", expected="one of them")
        found[limit.kind, limit.window] = limit
    return tuple(sorted(found.values()))


def begin(window: str, now: int) -> int:
    """When the window that holds `now` began."""
    if window == "minute":
        return now - now % MINUTE
    if window == "hour":
        return now - now % HOUR
    day = now - now % DAY
    if window == "day":
        return day
    if window == "week":
        # The first of January 1970 was a Thursday.
        return day - (day // DAY + 3) % 7 * DAY
    return int(datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())


def end(window: str, now: int) -> int:
    """When the window that holds `now` ends, and the next begins."""
    length = {"minute": MINUTE, "hour": HOUR, "day": DAY, "week": 7 * DAY}.get(window)
    # 31 days after the first is always in the next month.
    return begin(window, now) + length if length else begin("month", begin("month", now) + 31 * DAY)


def _limit(kind: str, window: str, most: str) -> Limit:
    kind, window = _kind(kind), _window(window)
    if kind == "nano_usd":
        try:
            return Limit(kind, window, money.nano_usd(most))
        except ValueError as e:
            raise Refusal(str(e)) from None
    digits = most.strip().replace("_", "")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 18:
        raise Refusal(f"{most!r} is not a number of {_shown(kind)}", expected="a whole number such as 100 or 1_000_000")
    return Limit(kind, window, int(digits))


def _kind(text: str) -> str:
    kind = _SPOKEN.get(text, text)
    if kind not in KINDS or text == "nano_usd":
        raise Refusal(
            f"{text!r} cannot be limited", expected=", ".join(_SHOWN), nearest=nearest(text, [*_SHOWN, *_SPOKEN])
        )
    return kind


def _window(text: str) -> str:
    if text not in WINDOWS:
        raise Refusal(
            f"{text!r} is not a window", expected=", ".join(WINDOWS), nearest=nearest(text.removesuffix("s"), WINDOWS)
        )
    return text


def _shown(kind: str) -> str:
    return "usd" if kind == "nano_usd" else kind

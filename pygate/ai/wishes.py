"""What people ask for in JSON, read strictly: keys, teams, projects, times and spans of time.

A field that is not known is refused with the nearest one that is; a field that is left out keeps its value.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from pygate.ai import limits
from pygate.ai.refusal import Refusal, nearest
from pygate.ai.store import Terms

PRIORITIES = 10
MAX_TOKENS = 2**53
#: Ten years.
MAX_SPAN = 3653 * limits.DAY
DEFAULT_OVERLAP = limits.DAY

_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SPAN = re.compile(r"([0-9]{1,9})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": limits.HOUR, "d": limits.DAY, "w": 7 * limits.DAY}
_KEY_FIELDS = tuple(field.name for field in fields(Terms))


def table(value: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """A JSON object of known fields only. Raises `Refusal`."""
    if not isinstance(value, dict):
        raise Refusal("the body is not a JSON object", expected=f"an object of {', '.join(known) or 'nothing'}")
    for name in value:
        if name not in known:
            raise Refusal(f"unknown field `{name}`", nearest=nearest(name, known), expected=", ".join(known) or None)
    return value


def terms(body: Any, now: int, before: Terms | None = None) -> Terms:
    """The terms of a new key, or other ones in place of `before`. Raises `Refusal`."""
    given = table(body, _KEY_FIELDS)
    if before is None and "name" not in given:
        raise Refusal("a key needs a name", expected="`name`, such as the application or person that uses it")
    read: dict[str, Any] = {}
    for name, value in given.items():
        match name:
            case "name":
                read[name] = _name(value)
            case "team" | "project":
                read[name] = group_name(name, value) if value else ""
            case "models":
                read[name] = _models(value)
            case "priority":
                read[name] = _number(name, value, PRIORITIES - 1)
            case "max_output_tokens" | "max_prompt_tokens":
                read[name] = None if value is None else _number(name, value, MAX_TOKENS)
            case "expires":
                read[name] = None if value is None else moment(value, now, "expires")
                if read[name] is not None and read[name] <= now:
                    raise Refusal("`expires` is in the past", expected="a time to come; to end a key, revoke it")
            case "limits":
                read[name] = limits.read_all(value)
    return Terms(**read) if before is None else replace(before, **read)


def group_name(kind: str, value: Any) -> str:
    """Raises `Refusal`."""
    if not isinstance(value, str) or not _GROUP.fullmatch(value):
        raise Refusal(
            f"{value!r} cannot be the name of a {kind}", expected="letters, digits, `.`, `_`, `-`; at most 63"
        )
    return value


def overlap(value: Any) -> int:
    """Seconds for which a rotated key's old secret is still accepted. Raises `Refusal`."""
    return DEFAULT_OVERLAP if value is None else span(value, "overlap")


def moment(value: Any, now: int, what: str) -> int:
    """Unix seconds of a time: a number, a date or date and time (UTC), or a span from now. Raises `Refusal`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40:
        return value
    text = value.strip() if isinstance(value, str) else ""
    if _SPAN.fullmatch(text):
        return now + span(text, what)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(
            f"`{what}` is not a time: {value!r}", expected="a span such as 90d, or a date such as 2027-01-31"
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def since(value: Any, now: int, what: str) -> int:
    """As `moment`, but a span leads back from now."""
    if isinstance(value, str) and _SPAN.fullmatch(value.strip()):
        return max(0, now - span(value, what))
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    return moment(value, now, what)


def span(value: Any, what: str) -> int:
    """Seconds of `90d`, `24h`, `15m`, `30s`, `2w`, or a number of them. Raises `Refusal`."""
    seconds = -1
    if isinstance(value, int) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and (found := _SPAN.fullmatch(value.strip())):
        seconds = int(found[1]) * _SECONDS[found[2]]
    if not 0 <= seconds <= MAX_SPAN:
        raise Refusal(
            f"`{what}` is not a span of time: {value!r}", expected="30s, 15m, 24h, 7d or 2w; at most 10 years"
        )
    return seconds


def _name(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > 100 or not text.isprintable() or text.startswith(("pk-", "key_")):
        raise Refusal(
            f"{value!r} cannot be a key's name", expected="1 to 100 printable characters, not like a key or its id"
        )
    return text


def _models(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or len(value) > 200:
        raise Refusal("`models` is a list of 1 to 200 names, or null for all", expected='["fast", "gpt-*"]')
    for name in value:
        if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable() or name != name.strip():
            raise Refusal(f"{name!r} is not a model's name", expected='a name or pattern such as "fast" or "gpt-*"')
    return tuple(dict.fromkeys(value))


def _number(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise Refusal(f"`{name}` is {value!r}", expected=f"a whole number from 0 to {most}")
    return value

"""Money: decimal text outside, whole nano-USD inside, never float."""

from __future__ import annotations

import re

NANO = 1_000_000_000
#: Nine decimals and ten digits before them: what 64 bits hold.
MOST = 2**63 - 1

_AMOUNT = re.compile(r"\$?([0-9]{1,10})(?:\.([0-9]{1,9}))?")


def nano_usd(text: str) -> int:
    """`"50.00"` → 50,000,000,000. Raises `ValueError` on anything that is not a plain decimal amount."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not an amount of USD: expected a decimal number such as 50.00 or 0.000001")
    amount = int(found[1]) * NANO + int((found[2] or "").ljust(9, "0"))
    if amount > MOST:
        raise ValueError(f"{text!r} is more than {usd(MOST)} USD")
    return amount


def usd(nano: int) -> str:
    """Exactly, with two decimals or as many as it needs: `"50.00"`, `"0.0000025"`."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    decimals = f"{nano % NANO:09d}".rstrip("0")
    return f"{sign}{nano // NANO}.{decimals:0<2}"

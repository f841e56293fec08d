"""Amounts and limits as people write them, and where windows begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pygate.ai import limits, money
from pygate.ai.limits import WINDOWS, Limit
from pygate.ai.refusal import Refusal


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("50.00", 50_000_000_000),
        ("0", 0),
        ("$0.0000025", 2_500),
        ("0.000000001", 1),
        (" 12.5 ", 12_500_000_000),
        ("9223372036.854775807", 2**63 - 1),
    ],
)
def test_amounts_are_exact(text: str, nano: int) -> None:
    assert money.nano_usd(text) == nano


@pytest.mark.parametrize(
    "text", ["", "1e3", "-1", "1.", ".5", "1,000", "1.0000000001", "nan", "٣", "9223372036.854775808"]
)
def test_other_texts_are_no_amounts(text: str) -> None:
    with pytest.raises(ValueError, match="amount|more than"):
        money.nano_usd(text)


@given(st.integers(0, 2**63 - 1))
def test_an_amount_survives_being_shown(nano: int) -> None:
    assert money.nano_usd(money.usd(nano)) == nano


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("requests:minute:100", Limit("requests", "minute", 100)),
        ("tokens:day:1_000_000", Limit("total_tokens", "day", 1_000_000)),
        ("input_tokens:hour:5", Limit("input_tokens", "hour", 5)),
        ("usd:month:50.00", Limit("nano_usd", "month", 50_000_000_000)),
    ],
)
def test_limits_are_read_and_shown_alike(text: str, limit: Limit) -> None:
    assert limits.parse(text) == limit
    assert limits.parse(str(limit)) == limit
    assert limits.read(limit.as_dict()) == limit


@pytest.mark.parametrize(
    ("value", "nearest"),
    [
        ("request:minute:1", "requests"),
        ("requests:minutes:1", "minute"),
        ("requests:monht:1", "month"),
        ("nano_usd:month:1", None),
        ("requests:minute", None),
        ("requests:minute:1.5", None),
        ("requests:minute:-1", None),
        ("usd:month:fifty", None),
        ({"kind": "usd", "window": "month", "max": 50.0}, None),
        ({"kind": "requests", "window": "month", "max": True}, None),
        ({"kind": "requests", "window": "month"}, None),
        ({"kind": "nano_usd", "window": "month", "max": 2**63}, None),
        (7, None),
    ],
)
def test_wrong_limits_are_refused_with_the_nearest_name(value: Any, nearest: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        limits.read(value)
    assert caught.value.nearest == nearest
    assert caught.value.expected or "amount" in caught.value.message


def test_one_limit_per_kind_and_window() -> None:
    with pytest.raises(Refusal, match="two limits on usd per month"):
        limits.read_all(["usd:month:1", {"kind": "usd", "window": "month", "max": "2.00"}])


@given(st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)))
def test_windows_follow_the_calendar(naive: datetime) -> None:
    moment = naive.replace(microsecond=0, tzinfo=UTC)
    now, day = int(moment.timestamp()), moment.replace(hour=0, minute=0, second=0)
    expected = {
        "minute": moment.replace(second=0),
        "hour": moment.replace(minute=0, second=0),
        "day": day,
        "week": day - timedelta(days=moment.weekday()),
        "month": day.replace(day=1),
    }
    for window in WINDOWS:
        begin, end = limits.begin(window, now), limits.end(window, now)
        assert begin == int(expected[window].timestamp())
        assert begin <= now < end
        assert limits.begin(window, end) == end, "the next one begins where this one ends"
        assert limits.begin(window, end - 1) == begin

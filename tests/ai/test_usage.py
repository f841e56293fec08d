"""What calls add up to, and what is told of it."""

from __future__ import annotations

import pytest

from pygate.ai import limits, secret
from pygate.ai.limits import DAY
from pygate.ai.refusal import Refusal
from pygate.ai.store import Store, Terms
from pygate.ai.usage import SUMS, Conflict, Ledger, add_up, grouping
from tests.ai.calls import PLAIN, call
from tests.ai.conftest import NOW

MINUTE = NOW // 60


def sums(**given: int) -> list[int]:
    return [given.get(name, 0) for name in SUMS]


def test_calls_of_a_minute_and_place_add_up() -> None:
    found = add_up([call(), call(NOW + 59.9, end="client", estimated=True), call(NOW + 60), PLAIN])
    one = {"input_tokens": 100, "output_tokens": 20, "cached_read": 40, "reasoning": 5, "nano_usd": 1500}
    place = ("key_1", "platform", "", "fast", "gpt-5-mini", "openai")
    assert found == {
        (MINUTE, *place): sums(requests=2, estimated=1, **{name: 2 * n for name, n in one.items()}),
        (MINUTE + 1, *place): sums(requests=1, **one),
    }


def test_an_unknown_price_is_flagged_and_never_zero() -> None:
    (found,) = add_up([call(nano_usd=None), call(nano_usd=0), call()]).values()
    told = dict(zip(SUMS, found, strict=True))
    assert (told["requests"], told["nano_usd"], told["unpriced"]) == (3, 1500, 1)


def test_a_call_that_no_provider_was_asked_for_is_refused_and_leaves_no_model() -> None:
    refused = call(
        model="whatever-a-client-likes", target="", provider="", input=0, output=0, nano_usd=None, end="error"
    )
    (place,) = found = add_up([refused])
    assert place == (MINUTE, "key_1", "platform", "", "", "", "")
    told = dict(zip(SUMS, found[place], strict=True))
    assert (told["requests"], told["refused"], told["errors"], told["unpriced"]) == (0, 1, 0, 0)


@pytest.mark.parametrize(("end", "errors"), [("clean", 0), ("client", 0), ("error", 1), ("cut", 1)])
def test_errors_are_those_of_providers(end: str, errors: int) -> None:
    (found,) = add_up([call(end=end)]).values()
    assert dict(zip(SUMS, found, strict=True))["errors"] == errors


def test_strange_values_of_a_record_do_no_harm() -> None:
    strange = call(key="k\0" + "y" * 500, input=-3, output=2**70, reasoning="many", project=None)
    (place,) = found = add_up([strange, {"llm": "no"}, {"llm": {}, "end_ns": 0}])
    assert place[1] == "k" + "y" * 198 and place[3] == ""
    told = dict(zip(SUMS, found[place], strict=True))
    assert (told["input_tokens"], told["output_tokens"], told["reasoning"]) == (0, 0, 0)


def test_sums_and_marks_go_together(store: Store) -> None:
    ledger = Ledger(store.database)
    assert ledger.marks("here") == {}
    first, second = {"worker-0": (1, 64, 3)}, {"worker-0": (2, 10, 9), "worker-1": (1, 5, 1)}
    ledger.add("here", {}, first, add_up([call()]))
    ledger.add("here", first, second, add_up([call()]))
    assert ledger.marks("here") == second
    assert ledger.marks("elsewhere") == {}
    for before in ({}, first, {"worker-0": second["worker-0"]}):
        with pytest.raises(Conflict):
            ledger.add("here", before, {"worker-0": (3, 0, 20), "worker-1": (1, 9, 2)}, add_up([call()]))
    assert ledger.marks("here") == second
    assert ledger.told(("key",), 0, NOW + 60, {})[1]["requests"] == 2


def test_usage_is_told_by_what_one_asks(store: Store) -> None:
    key = store.create(Terms("ci"), secret.make(), NOW)
    calls = [
        *(call(key=key.id) for _ in range(3)),
        call(key="", team="", nano_usd=7_000),
        call(NOW - 3 * DAY, key=key.id, model="smart", target="claude", provider="anthropic", nano_usd=None),
    ]
    ledger = Ledger(store.database)
    ledger.add("here", {}, {"worker-0": (1, 1, 5)}, add_up(calls))

    rows, total = ledger.told(("key",), NOW - 7 * DAY, NOW + 60, {})
    assert [(r["key"], r.get("name"), r["requests"], r["nano_usd"], r["usd"], r["unpriced"]) for r in rows] == [
        ("", None, 1, 7_000, "0.000007", 0),
        (key.id, "ci", 4, 4_500, "0.0000045", 1),
    ]
    assert (total["requests"], total["input_tokens"], total["usd"]) == (5, 500, "0.0000115")
    rows, _ = ledger.told(("day",), NOW - 7 * DAY, NOW + 60, {})
    assert [(r["day"], r["requests"]) for r in rows] == [("2026-11-22", 1), ("2026-11-25", 4)]
    rows, _ = ledger.told(("model", "provider"), NOW - 7 * DAY, NOW + 60, {"key": key.id})
    assert [(r["model"], r["provider"], r["requests"]) for r in rows] == [
        ("fast", "openai", 3),
        ("smart", "anthropic", 1),
    ]
    rows, total = ledger.told(("team",), NOW - DAY, NOW + 60, {})
    assert [(r["team"], r["requests"]) for r in rows] == [("", 1), ("platform", 3)] and total["requests"] == 4
    assert ledger.told(("team",), NOW + 60, NOW + 120, {}) == ([], dict.fromkeys(SUMS, 0) | {"usd": "0.00"})


def test_what_current_windows_have_seen(store: Store) -> None:
    ledger = Ledger(store.database)
    starts = {window: limits.begin(window, NOW) for window in limits.WINDOWS}
    # One call in each window that is in no shorter one, and one before all of them.
    times = [NOW, starts["hour"], starts["day"], starts["week"], starts["month"], starts["month"] - 1]
    ledger.add("here", {}, {"worker-0": (1, 1, 6)}, add_up([call(at, project="search") for at in times]))
    wanted = [("key:key_1", "requests", window) for window in limits.WINDOWS]
    assert {entry[2]: entry[3] for entry in ledger.used(wanted, NOW)} == {
        "minute": 1,
        "hour": 2,
        "day": 3,
        "week": 4,
        "month": 5,
    }
    kinds = {"input_tokens": 300, "output_tokens": 60, "total_tokens": 360, "nano_usd": 4_500, "requests": 3}
    for scope in ("team:platform", "project:search"):
        assert {e[1]: e[3] for e in ledger.used([(scope, kind, "day") for kind in kinds], NOW)} == kinds
    assert ledger.used([("team:nobody", "requests", "day"), ("key:platform", "requests", "day")], NOW) == [
        ("key:platform", "requests", "day", 0),
        ("team:nobody", "requests", "day", 0),
    ]


def test_sums_are_exact_where_floats_are_not(store: Store) -> None:
    """2**53 + 1 nano-USD, in two parts, over two rows."""
    ledger = Ledger(store.database)
    ledger.add("a", {}, {"w": (1, 1, 1)}, add_up([call(nano_usd=2**53)]))
    ledger.add("b", {}, {"w": (1, 1, 1)}, add_up([call(nano_usd=1), call(NOW + 60, nano_usd=2)]))
    assert ledger.told(("key",), 0, NOW + 120, {})[1]["nano_usd"] == 2**53 + 3


def test_grouping_is_read() -> None:
    assert grouping("team, model,team") == ("team", "model")
    with pytest.raises(Refusal) as caught:
        grouping("modle")
    assert caught.value.nearest == "model"


def test_old_rows_become_longer_and_nothing_else_changes(store: Store) -> None:
    ledger = Ledger(store.database)
    midnight = limits.begin("day", NOW)
    calls = [
        call(midnight - day * DAY + minute * 60, nano_usd=day + minute) for day in range(60) for minute in (0, 7, 61)
    ]
    calls += [call(midnight - 50 * DAY + 61 * 60, model="smart", nano_usd=None)]
    ledger.add("here", {}, {"worker-0": (1, 1, 1)}, add_up(calls))

    def rows() -> int:
        with store.database.read() as view:
            return int(view.rows("SELECT COUNT(*) FROM pygate_usage")[0][0])

    wanted = [("key:key_1", kind, window) for kind in limits.KINDS for window in limits.WINDOWS]
    told = [ledger.told((by,), 0, NOW + 60, {}) for by in ("day", "model", "key")]
    used = ledger.used(wanted, NOW)
    assert rows() == 60 * 3 + 1
    assert ledger.condense(NOW) == 57 + 19
    # Three days by minute, 38 by hour, 19 by day; one day has another model.
    assert rows() == 3 * 3 + 38 * 2 + 19 + 1
    assert [ledger.told((by,), 0, NOW + 60, {}) for by in ("day", "model", "key")] == told
    assert ledger.used(wanted, NOW) == used
    assert ledger.condense(NOW) == 0
    # A log that is read late is added to what there is.
    ledger.add("late", {}, {"worker-0": (1, 1, 1)}, add_up(calls))
    assert ledger.condense(NOW) == 76 and rows() == 3 * 3 + 38 * 2 + 19 + 1
    assert ledger.told(("key",), 0, NOW + 60, {})[1]["requests"] == 2 * (60 * 3 + 1)

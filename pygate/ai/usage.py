"""What calls add up to: rows per minute, key, team, project, model, target and provider.

A call is a dict as `pygate.audit.Tail.calls` gives it; only those with an `llm` count. `end_ns` says in which minute.

Rules:

1. How far a log has been read is written in the transaction that adds the sums: a call counts once, whatever dies.
2. Who finds the marks elsewhere than where it left them has a rival and starts over from the marks (`Conflict`).
3. A call that no provider was asked for (over budget, unknown model) is `refused`, no request, and its model's name,
   which a client chose, is not kept.
4. A call without a known price adds to `unpriced`, never a price of zero.
5. Rows of minutes become rows of hours after two days, and of days after forty: no window and no total changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pygate.ai import limits, money
from pygate.ai.database import Database, Transaction
from pygate.ai.refusal import Refusal, nearest
from pygate.audit.tail import Marks

_PLACE = ("minute", "key_id", "team", "project", "model", "target", "provider")
SUMS = (
    *("requests", "refused", "errors", "input_tokens", "output_tokens", "cached_read", "cached_write", "reasoning"),
    *("audio_input", "audio_output", "nano_usd", "unpriced", "estimated"),
)
_TOKENS = ("input", "output", "cached_read", "cached_write", "reasoning", "audio_input", "audio_output")
MAX_NAME = 200
#: Rows of this many minutes each, from this many days on.
CONDENSED = ((60, 2), (1440, 40))

_INTO = f"INSERT INTO pygate_usage ({', '.join((*_PLACE, *SUMS))})"
_OR_ADD = f" ON CONFLICT ({', '.join(_PLACE)}) DO UPDATE SET " + ", ".join(
    f"{name} = pygate_usage.{name} + excluded.{name}" for name in SUMS
)
_ADD = f"{_INTO} VALUES ({', '.join('?' * (len(_PLACE) + len(SUMS)))}){_OR_ADD}"
#: Rows of a stretch that do not begin a longer one, added to the rows that do.
_FINE = "FROM pygate_usage WHERE minute >= ? AND minute < ? AND minute % ? <> 0"
_CONDENSE = (
    f"{_INTO} SELECT minute - minute % ? AS longer, {', '.join(_PLACE[1:])},"
    f" {', '.join(f'SUM({name})' for name in SUMS)} {_FINE} GROUP BY longer, {', '.join(_PLACE[1:])}{_OR_ADD}"
)

#: What usage can be told by, and the column or expression for it.
BY = {
    "key": "key_id",
    "team": "team",
    "project": "project",
    "model": "model",
    "target": "target",
    "provider": "provider",
    "day": "minute / 1440",
}
_SCOPES = {"key": "key_id", "team": "team", "project": "project"}
_USED = {
    "requests": "requests",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "total_tokens": "input_tokens + output_tokens",
    "nano_usd": "nano_usd",
}

Place = tuple[int | str, ...]
Entry = tuple[str, str, str, int]
"""Scope, kind and window of a limit, and a number: what `Shared.restore_budgets` takes."""


class Conflict(Exception):
    """Somebody else has added up the same log meanwhile; nothing was added."""


def add_up(calls: Iterable[dict[str, Any]]) -> dict[Place, list[int]]:
    """Sums in the order of `SUMS`, by place."""
    found: dict[Place, list[int]] = {}
    for call in calls:
        llm = call.get("llm")
        if not isinstance(llm, dict) or not call.get("end_ns"):
            continue
        asked = bool(llm.get("provider") or llm.get("target"))
        place: Place = (
            int(call["end_ns"]) // 60_000_000_000,
            *(_text(llm.get(name)) for name in ("key", "team", "project")),
            _text(llm.get("model")) if asked else "",
            *(_text(llm.get(name)) for name in ("target", "provider")),
        )
        price = llm.get("nano_usd")
        sums = [
            *(int(asked), int(not asked), int(asked and llm.get("end") in ("error", "cut"))),
            *(_count(llm.get(name)) for name in _TOKENS),
            *(_count(price), int(asked and price is None), int(bool(llm.get("estimated")))),
        ]
        before = found.get(place)
        found[place] = sums if before is None else [a + b for a, b in zip(before, sums, strict=True)]
    return found


class Ledger:
    """Usage in the database."""

    def __init__(self, database: Database) -> None:
        """`database` has its tables already (`Store`)."""
        self.database = database

    def marks(self, source: str) -> Marks:
        """How far the logs of an audit directory have been added up. Raises `StoreError`."""
        with self.database.read() as view:
            rows = view.rows("SELECT log, segment, position, sequence FROM pygate_marks WHERE source = ?", source)
            return {log: (int(segment), int(position), int(sequence)) for log, segment, position, sequence in rows}

    def add(self, source: str, before: Marks, after: Marks, sums: dict[Place, list[int]]) -> None:
        """Adds what was found between two marks. Raises `Conflict`, `StoreError`; nothing is added then."""
        with self.database.write() as change:
            self.database.exclude(change)
            for log, mark in sorted(after.items()):
                if before.get(log) != mark and not _move(change, source, log, before.get(log), mark):
                    raise Conflict(f"{source}/{log}")
            change.many(_ADD, [(*place, *found) for place, found in sums.items()])

    def condense(self, now: int) -> int:
        """Makes old rows longer, a day in each transaction; returns how many days it took. Raises `StoreError`."""
        days = 0
        for length, age in CONDENSED:
            before = limits.begin("day", now - age * limits.DAY) // 60
            while self._condense_day(length, before):
                days += 1
        return days

    def _condense_day(self, length: int, before: int) -> bool:
        with self.database.write() as change:
            self.database.exclude(change)
            oldest = change.row(
                "SELECT MIN(minute) FROM pygate_usage WHERE minute < ? AND minute % ? <> 0", before, length
            )
            if oldest is None or oldest[0] is None:
                return False
            day = int(oldest[0]) - int(oldest[0]) % 1440
            change.execute(_CONDENSE, length, day, day + 1440, length)
            change.execute(f"DELETE {_FINE}", day, day + 1440, length)
            return True

    def used(self, wanted: Iterable[tuple[str, str, str]], now: int) -> list[Entry]:
        """For each (scope, kind, window) what its current window has seen so far. Raises `StoreError`."""
        with self.database.read() as view:
            return _used(view, sorted(set(wanted)), now)

    def told(
        self, by: tuple[str, ...], since: int, until: int, only: dict[str, str]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Rows of sums grouped by names of `BY`, dearest first (days in their order), and the sum of all.

        `since` and `until` in unix seconds, to the minute; `only`: values of names of `BY` that rows must have.
        Raises `StoreError`.
        """
        where, values = ["minute >= ?", "minute < ?"], [since // 60, -(-until // 60)]
        for name, value in sorted(only.items()):
            where.append(f"{BY[name]} = ?")
            values.append(value)  # type: ignore[arg-type]
        sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in SUMS)
        chosen = f"FROM pygate_usage WHERE {' AND '.join(where)}"
        groups = ", ".join(f"{BY[name]} AS by_{name}" for name in by)
        grouping = ", ".join(str(n + 1) for n in range(len(by)))
        with self.database.read() as view:
            total = view.rows(f"SELECT {sums} {chosen}", *values)[0]
            rows = view.rows(f"SELECT {groups}, {sums} {chosen} GROUP BY {grouping}", *values)
            names = dict(view.rows("SELECT id, name FROM pygate_keys")) if "key" in by else {}
        found: list[dict[str, Any]] = []
        for row in rows:
            place = {n: _day(v) if n == "day" else v for n, v in zip(by, row, strict=False)}
            if place.get("key"):
                place["name"] = names.get(place["key"], "")
            found.append(place | _told(row[len(by) :]))
        found.sort(
            key=lambda r: (
                r["day"] if "day" in by else "",
                -int(r["nano_usd"]),
                -int(r["requests"]),
                *(r[n] for n in by),
            )
        )
        return found, _told(total)


def grouping(text: str) -> tuple[str, ...]:
    """Reads what usage is to be told by: `team`, `team,model`. Raises `Refusal`."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in BY:
            raise Refusal(f"usage is not told by {name!r}", nearest=nearest(name, list(BY)), expected=", ".join(BY))
    return names


def _used(view: Transaction, wanted: list[tuple[str, str, str]], now: int) -> list[Entry]:
    kinds = ", ".join(f"COALESCE(SUM({_USED[kind]}), 0)" for kind in limits.KINDS)
    sums: dict[tuple[str, str], tuple[Any, ...]] = {}
    for owner, window in sorted({(scope.partition(":")[0], window) for scope, _, window in wanted}):
        column = _SCOPES[owner]
        for row in view.rows(
            f"SELECT {column}, {kinds} FROM pygate_usage WHERE minute >= ? GROUP BY {column}",
            limits.begin(window, now) // 60,
        ):
            sums[f"{owner}:{row[0]}", window] = row[1:]
    return [
        (scope, kind, window, int(sums[scope, window][limits.KINDS.index(kind)]) if (scope, window) in sums else 0)
        for scope, kind, window in wanted
    ]


def _move(
    change: Transaction, source: str, log: str, before: tuple[int, int, int] | None, after: tuple[int, int, int]
) -> bool:
    """Moves a mark; false when it is not where it was left."""
    if before is None:
        added = "INSERT INTO pygate_marks (source, log, segment, position, sequence) VALUES (?, ?, ?, ?, ?)"
        return change.execute(f"{added} ON CONFLICT (source, log) DO NOTHING", source, log, *after) == 1
    moved = "UPDATE pygate_marks SET segment = ?, position = ?, sequence = ? WHERE source = ? AND log = ?"
    return (
        change.execute(f"{moved} AND segment = ? AND position = ? AND sequence = ?", *after, source, log, *before) == 1
    )


def _told(sums: tuple[Any, ...]) -> dict[str, Any]:
    # PostgreSQL's sums of BIGINT are decimals.
    told: dict[str, Any] = dict(zip(SUMS, map(int, sums), strict=True))
    return told | {"usd": money.usd(told["nano_usd"])}


def _day(number: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(number * limits.DAY, UTC):%Y-%m-%d}"


def _text(value: Any) -> str:
    # PostgreSQL takes no NUL in a text.
    return value[:MAX_NAME].replace("\0", "") if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62 else 0

"""The table: what its TOML files may say, read into rows.

Rules:

1. Text stands for bytes by Latin-1: `"\\u00a0"` in a row is the byte 0xA0 on the wire, `"\\r\\n"` is CRLF.
2. A key nobody knows is an error: a misspelt expectation must not pass for one that holds.
3. A sweep is one row per item of its list; `{}` in its texts is replaced by the item.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent / "table"

#: What a client row may be spoken over; rows of frames have the other two.
H1 = ("h1", "h1-tls")
H2 = ("h2c", "h2")

#: A well-formed request, sent by rows whose hostile side is the upstream.
PLAIN = "GET /row HTTP/1.1\r\nHost: h\r\n\r\n"


class TableError(Exception):
    """A row that does not say what it means."""


@dataclass(frozen=True)
class Seen:
    """One request as the upstream must receive it. What is not said is not looked at."""

    method: str | None = None
    target: str | None = None
    host: str | None = None
    #: Name in lower case → value; several lines of one name are joined by `" | "`.
    headers: dict[str, str] = field(default_factory=dict)
    #: Names, in lower case, that must not be there.
    lacks: tuple[str, ...] = ()
    body: str | None = None
    trailers: dict[str, str] | None = None


@dataclass(frozen=True)
class Row:
    """One attack. See `table/README.md` for the language."""

    id: str
    what: str
    source: str
    catalogue: tuple[int, ...] = ()
    send: tuple[Any, ...] = (PLAIN,)
    #: Final statuses in their order, or one word: closed, cut, refused, reset, goaway …, rst ….
    expect: tuple[int, ...] | str = (200,)
    #: Whether the connection can be used after it: open, closed, or any; None: open after answers below 400 only.
    then: str | None = None
    #: `x-pygate-error` of the last answer; None: by its status.
    code: str | None = None
    #: What must, and must not, be among the bytes the client gets.
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    #: "nothing", "nothing complete", "anything", a number of requests, or the requests themselves; None: one per 2xx.
    upstream: Any = None
    #: What the upstream sends, when it is the hostile side.
    answer: tuple[Any, ...] = ()
    #: Whether it answers behind the request's head or behind its end.
    answer_at: str = "end"
    #: Whether the gateway may use that upstream connection again; None: not looked at.
    reuse: bool | None = None
    options: str = "default"
    protocols: tuple[str, ...] = H1
    #: How the bytes are cut: whole, bytes, pairs.
    pieces: tuple[str, ...] = ("whole", "bytes", "pairs")
    #: A driver of its own in `special.py`, for what bytes alone cannot say.
    special: str = ""
    #: Seconds the row may take; only what fails takes them.
    timeout: float = 30.0
    #: Takes long by its nature (deadlines): not part of the quick run.
    slow: bool = False
    generated: bool = False

    @property
    def hostile(self) -> str:
        """Which side is hostile."""
        return "upstream" if self.answer else "client"

    @property
    def statuses(self) -> tuple[int, ...]:
        return () if isinstance(self.expect, str) else self.expect

    @property
    def expected(self) -> str:
        """What the client gets, in words."""
        return self.expect if isinstance(self.expect, str) else ", ".join(map(str, self.expect))

    @property
    def stays_open(self) -> bool:
        if self.then is not None:
            return self.then == "open"
        return bool(self.statuses) and self.statuses[-1] < 400

    @property
    def requests(self) -> int:
        """Complete requests the upstream must have, if it matters how many."""
        if self.upstream is None:
            return sum(1 for status in self.statuses if status < 300)
        if isinstance(self.upstream, int):
            return self.upstream
        if isinstance(self.upstream, str):
            return 0
        return len(self.upstream)


@dataclass(frozen=True)
class NotApplicable:
    """A number of the catalogue that pygate gives no occasion for, and why."""

    id: str
    catalogue: tuple[int, ...]
    what: str
    because: str


@dataclass(frozen=True)
class Table:
    rows: list[Row]
    not_applicable: list[NotApplicable]

    def covered(self) -> set[int]:
        """Numbers of the catalogue that a row or a reason stands for."""
        items: Sequence[Row | NotApplicable] = [*self.rows, *self.not_applicable]
        return {number for item in items for number in item.catalogue}


#: Sets of bytes a sweep may go over.
BYTES = [chr(b) for b in range(256)]


def read(directory: Path = TABLE) -> Table:
    """Every row of every file, in the files' order.

    Raises `TableError` for unknown keys, missing ones and numbers used twice.
    """
    table = Table([], [])
    for path in sorted(directory.glob("*.toml")):
        if path.stem == "variants":
            continue
        document = tomllib.loads(path.read_text())
        if unknown := set(document) - {"group", "row", "sweep", "absent"}:
            raise TableError(f"{path.name}: unknown tables {sorted(unknown)}")
        defaults = document.get("group", {})
        for raw in document.get("row", []):
            table.rows.append(_row({**defaults, **raw}, path.name))
        for raw in document.get("sweep", []):
            table.rows.extend(_sweep({**defaults, **raw}, path.name))
        for raw in document.get("absent", []):
            table.not_applicable.append(NotApplicable(**{**raw, "catalogue": tuple(raw["catalogue"])}))
    ids = [row.id for row in table.rows]
    if len(ids) != len(set(ids)):
        raise TableError(f"ids used twice: {sorted({i for i in ids if ids.count(i) > 1})}")
    return table


def _row(raw: dict[str, Any], where: str) -> Row:
    known = {f.name for f in fields(Row)}
    if unknown := set(raw) - known:
        raise TableError(f"{where}: {raw.get('id', '?')}: unknown keys {sorted(unknown)}")
    if missing := {"id", "what", "source"} - set(raw):
        raise TableError(f"{where}: {raw.get('id', '?')}: {sorted(missing)} missing")
    values = dict(raw)
    if isinstance(values.get("expect"), int):
        values["expect"] = (values["expect"],)
    for name in ("send", "answer", "has", "lacks"):
        if isinstance(values.get(name), str):
            values[name] = (values[name],)
    for name, value in values.items():
        if isinstance(value, list) and name != "upstream":
            values[name] = tuple(value)
    if isinstance(values.get("upstream"), list):
        values["upstream"] = tuple(_seen(item, where) for item in values["upstream"])
    return Row(**values)


def _seen(raw: dict[str, Any], where: str) -> Seen:
    if unknown := set(raw) - {f.name for f in fields(Seen)}:
        raise TableError(f"{where}: upstream: unknown keys {sorted(unknown)}")
    return Seen(**{**raw, "lacks": tuple(raw.get("lacks", ()))})


def _sweep(raw: dict[str, Any], where: str) -> Iterator[Row]:
    """`over`: a list of texts, or "bytes"; `fine`: the items that are answered by `good`, all others by `bad`.

    `other` names single items with an answer of their own: item → keys of a row.
    """
    shared = {k: v for k, v in raw.items() if k not in ("over", "fine", "good", "bad", "other")}
    over = BYTES if raw["over"] == "bytes" else raw["over"]
    fine = set(raw.get("fine", []))
    if isinstance(raw.get("fine"), str):
        fine = set(raw["fine"])
    if stray := fine - set(over):
        raise TableError(f"{where}: {raw['id']}: fine items that are not gone over: {sorted(stray)}")
    for number, item in enumerate(over):
        label = f"{ord(item):02x}" if raw["over"] == "bytes" else f"{number:02}"
        own = raw.get("other", {}).get(item, raw.get("good", {}) if item in fine else raw.get("bad", {}))
        row = _row({**shared, **own, "id": f"{raw['id']}-{label}"}, where)
        yield replace(
            row,
            what=row.what.replace("{}", _shown(item)),
            send=tuple(_filled(step, item) for step in row.send),
            answer=tuple(_filled(step, item) for step in row.answer),
            upstream=_filled_seen(row.upstream, item),
            pieces=tuple(p for p in row.pieces if p != "pairs"),
            generated=True,
        )


def _filled(step: Any, item: str) -> Any:
    if isinstance(step, dict):
        return {key: _filled(value, item) for key, value in step.items()}
    if isinstance(step, list):
        return [_filled(value, item) for value in step]
    return step.replace("{}", item) if isinstance(step, str) else step


def _filled_seen(upstream: Any, item: str) -> Any:
    if not isinstance(upstream, tuple):
        return upstream

    def fill(text: str | None) -> str | None:
        return None if text is None else text.replace("{}", item)

    return tuple(
        replace(
            seen,
            method=fill(seen.method),
            target=fill(seen.target),
            host=fill(seen.host),
            body=fill(seen.body),
            headers={k.replace("{}", item.lower()): v.replace("{}", item) for k, v in seen.headers.items()},
        )
        for seen in upstream
    )


def _shown(item: str) -> str:
    """An item as a reader can tell it from others."""
    if len(item) == 1 and not (0x20 < ord(item) < 0x7F):
        return f"0x{ord(item):02x}"
    return item.encode("latin-1").decode("ascii", "backslashreplace").encode("unicode_escape").decode()

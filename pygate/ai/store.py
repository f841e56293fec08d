"""Keys, teams and projects in the database.

Rules:

1. Every change raises the version of the keys first, in its own transaction: changes take turns at that row, and who
   reads the version knows whether a snapshot is still right.
2. A key is never deleted, only revoked: usage and audit records name it.
3. A rotated key has several secrets; all but the newest have a time at which they retire.
4. The time is an argument.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pygate.ai import migrations
from pygate.ai.database import Database, StoreError, Transaction, open_database
from pygate.ai.limits import Limit
from pygate.ai.refusal import Refusal, unknown
from pygate.ai.secret import PREFIX, Fresh, make_id, recognised

#: Tables of what keys may belong to.
GROUPS = {"team": "pygate_teams", "project": "pygate_projects"}

ACCEPTED = (
    *("id", "name", "sha256", "team", "project", "models", "expires"),
    *("priority", "max_output_tokens", "max_prompt_tokens"),
)
_ACCEPTED = (
    f"SELECT {', '.join(f's.{n}' if n == 'sha256' else f'k.{n}' for n in ACCEPTED)}, s.retires"
    " FROM pygate_keys k JOIN pygate_secrets s ON s.key_id = k.id"
    " WHERE k.revoked IS NULL AND (k.expires IS NULL OR k.expires > ?) AND (s.retires IS NULL OR s.retires > ?)"
    " ORDER BY k.created, k.id, COALESCE(s.retires, 9223372036854775807) DESC"
)
_COLUMNS = "id, name, team, project, models, priority, max_output_tokens, max_prompt_tokens, created, expires, revoked"


@dataclass(frozen=True)
class Secret:
    """One key text that is accepted, or was."""

    prefix: str
    sha256: str
    created: int
    #: Unix seconds from which it is not accepted any more.
    retires: int | None


@dataclass(frozen=True)
class Terms:
    """What a key may do. `team` and `project` are empty for none, `models` is `None` for all of the route."""

    name: str
    team: str = ""
    project: str = ""
    models: tuple[str, ...] | None = None
    priority: int = 0
    max_output_tokens: int | None = None
    max_prompt_tokens: int | None = None
    #: Unix seconds.
    expires: int | None = None
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True)
class Key:
    """A key as it is kept."""

    id: str
    terms: Terms
    created: int
    revoked: int | None
    #: Newest first.
    secrets: tuple[Secret, ...]

    def state(self, now: int) -> str:
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.terms.expires is not None and self.terms.expires <= now else "active"


@dataclass(frozen=True)
class Group:
    """A team or project."""

    name: str
    created: int
    limits: tuple[Limit, ...]
    #: Keys of it that are not revoked.
    keys: int


class Store:
    """Everything blocks; see `pygate.ai.database`."""

    def __init__(self, database: Database) -> None:
        """Brings the tables up to date. Raises `StoreError`."""
        self.database = database
        migrations.migrate(database)

    @classmethod
    def open(cls, url: str) -> Store:
        """Raises `StoreError`."""
        return cls(open_database(url))

    def close(self) -> None:
        self.database.close()

    def version(self) -> int:
        """Another number after every change."""
        with self.database.read() as view:
            return _version(view)

    def accepted(self, now: int) -> tuple[int, list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Version, a row per secret that is accepted (`ACCEPTED`, then when it retires), and all limits as rows of
        scope, kind, window and size: one moment. Rows, as there may be tens of thousands of them."""
        with self.database.read() as view:
            rows = view.rows(_ACCEPTED, now, now)
            limits = view.rows("SELECT scope, kind, per, most FROM pygate_limits ORDER BY scope, kind, per")
            return _version(view), rows, limits

    def group_limits(self) -> dict[str, tuple[Limit, ...]]:
        """Limits of teams and projects by scope."""
        with self.database.read() as view:
            return _limits(view, "WHERE scope NOT LIKE 'key:%'")

    # --- keys ---

    def keys(self, team: str | None = None, project: str | None = None) -> list[Key]:
        """Oldest first, whatever their state."""
        with self.database.read() as view:
            for kind, name in (("team", team), ("project", project)):
                if name:
                    _need_group(view, kind, name)
            wanted = [(f"{kind} = ?", name) for kind, name in (("team", team), ("project", project)) if name]
            where = "WHERE " + " AND ".join(text for text, _ in wanted) if wanted else ""
            return _keys(view, where, [name for _, name in wanted])

    def find(self, reference: str) -> Key:
        """By id, by name if only one is called so, or by how it begins. Raises `Refusal`."""
        with self.database.read() as view:
            return _find(view, reference)

    def create(self, terms: Terms, secret: Fresh, now: int) -> Key:
        """Raises `Refusal` when its team or project is unknown."""
        with self._change() as change:
            _need_groups(change, terms)
            key_id = make_id()
            change.execute(
                f"INSERT INTO pygate_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(key_id, *_row(terms), now, terms.expires, None),
            )
            _add_secret(change, key_id, secret, now)
            _put_limits(change, f"key:{key_id}", terms.limits)
            return _find(change, key_id)

    def change(self, reference: str, terms: Terms) -> Key:
        """Other terms for a key that is not revoked. Raises `Refusal`."""
        with self._change() as change:
            key = _living(_find(change, reference))
            _need_groups(change, terms)
            change.execute(
                "UPDATE pygate_keys SET name = ?, team = ?, project = ?, models = ?, priority = ?,"
                " max_output_tokens = ?, max_prompt_tokens = ?, expires = ? WHERE id = ?",
                *(*_row(terms), terms.expires, key.id),
            )
            _put_limits(change, f"key:{key.id}", terms.limits)
            return _find(change, key.id)

    def rotate(self, reference: str, secret: Fresh, overlap: int, now: int) -> Key:
        """A new secret; those there were are accepted for `overlap` seconds more at most. Raises `Refusal`."""
        with self._change() as change:
            key = _living(_find(change, reference))
            change.execute(
                "UPDATE pygate_secrets SET retires = ? WHERE key_id = ? AND (retires IS NULL OR retires > ?)",
                *(now + overlap, key.id, now + overlap),
            )
            _add_secret(change, key.id, secret, now)
            return _find(change, key.id)

    def revoke(self, reference: str, now: int) -> Key:
        """For good. Raises `Refusal` when it is unknown or revoked already."""
        with self._change() as change:
            key = _living(_find(change, reference))
            change.execute("UPDATE pygate_keys SET revoked = ? WHERE id = ?", now, key.id)
            return _find(change, key.id)

    # --- teams and projects ---

    def groups(self, kind: str) -> list[Group]:
        """All teams or projects by name."""
        with self.database.read() as view:
            limits = _limits(view, f"WHERE scope LIKE '{kind}:%'")
            rows = view.rows(
                f"SELECT g.name, g.created, COUNT(k.id) FROM {GROUPS[kind]} g"
                f" LEFT JOIN pygate_keys k ON k.{kind} = g.name AND k.revoked IS NULL"
                " GROUP BY g.name, g.created ORDER BY g.name"
            )
            return [Group(n, int(created), limits.get(f"{kind}:{n}", ()), int(count)) for n, created, count in rows]

    def group(self, kind: str, name: str) -> Group:
        """Raises `Refusal` when there is none."""
        found = {group.name: group for group in self.groups(kind)}
        if name not in found:
            raise unknown(kind, name, list(found))
        return found[name]

    def create_group(self, kind: str, name: str, limits: tuple[Limit, ...], now: int) -> Group:
        """Raises `Refusal` when it is there already."""
        with self._change() as change:
            added = change.execute(
                f"INSERT INTO {GROUPS[kind]} (name, created) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, now
            )
            if added != 1:
                raise Refusal(f"{kind} `{name}` exists already", status=409, expected=f"`set` to change the {kind}")
            _put_limits(change, f"{kind}:{name}", limits)
        return self.group(kind, name)

    def change_group(self, kind: str, name: str, limits: tuple[Limit, ...]) -> Group:
        """Other limits. Raises `Refusal` when there is none."""
        with self._change() as change:
            _need_group(change, kind, name)
            _put_limits(change, f"{kind}:{name}", limits)
        return self.group(kind, name)

    def remove_group(self, kind: str, name: str) -> None:
        """Raises `Refusal` when there is none, or keys of it are not revoked."""
        with self._change() as change:
            _need_group(change, kind, name)
            found = change.row(f"SELECT COUNT(*) FROM pygate_keys WHERE {kind} = ? AND revoked IS NULL", name)
            if found and found[0]:
                raise Refusal(
                    f"{kind} `{name}` has {found[0]} key{'s' if found[0] > 1 else ''}",
                    status=409,
                    expected=f"all keys of the {kind} revoked, or moved to another one",
                )
            _put_limits(change, f"{kind}:{name}", ())
            change.execute(f"DELETE FROM {GROUPS[kind]} WHERE name = ?", name)

    @contextlib.contextmanager
    def _change(self) -> Iterator[Transaction]:
        with self.database.write() as change:
            if change.execute("UPDATE pygate_meta SET number = number + 1 WHERE name = 'keys'") != 1:
                raise StoreError(f"{self.database.shown} has lost its version")
            yield change


def _version(view: Transaction) -> int:
    return migrations.number(view, "keys") or 0


def _row(terms: Terms) -> tuple[Any, ...]:
    models = None if terms.models is None else orjson.dumps(terms.models).decode()
    return (
        *(terms.name, terms.team, terms.project, models),
        *(terms.priority, terms.max_output_tokens, terms.max_prompt_tokens),
    )


def _add_secret(change: Transaction, key_id: str, secret: Fresh, now: int) -> None:
    change.execute(
        "INSERT INTO pygate_secrets (sha256, key_id, prefix, created, retires) VALUES (?, ?, ?, ?, ?)",
        *(secret.sha256, key_id, secret.prefix, now, None),
    )


def _put_limits(change: Transaction, scope: str, limits: Sequence[Limit]) -> None:
    change.execute("DELETE FROM pygate_limits WHERE scope = ?", scope)
    change.many(
        "INSERT INTO pygate_limits (scope, kind, per, most) VALUES (?, ?, ?, ?)",
        [(scope, limit.kind, limit.window, limit.max) for limit in limits],
    )


def _limits(view: Transaction, where: str, values: Sequence[Any] = ()) -> dict[str, tuple[Limit, ...]]:
    """Limits by scope."""
    found: dict[str, list[Limit]] = {}
    rows = view.rows(f"SELECT scope, kind, per, most FROM pygate_limits {where}", *values)
    for scope, kind, window, most in rows:
        found.setdefault(scope, []).append(Limit(kind, window, int(most)))
    return {scope: tuple(sorted(limits)) for scope, limits in found.items()}


def _keys(view: Transaction, where: str, values: Sequence[Any]) -> list[Key]:
    secrets: dict[str, list[Secret]] = {}
    chosen = f"WHERE key_id IN (SELECT id FROM pygate_keys {where})" if where else ""
    for key_id, prefix, sha256, created, retires in view.rows(
        f"SELECT key_id, prefix, sha256, created, retires FROM pygate_secrets {chosen}", *values
    ):
        secrets.setdefault(key_id, []).append(Secret(prefix, sha256, int(created), retires))
    limits = _limits(view, f"WHERE scope IN (SELECT 'key:' || id FROM pygate_keys {where})", values)
    found = []
    for row in view.rows(f"SELECT {_COLUMNS} FROM pygate_keys {where} ORDER BY created, id", *values):
        key_id, name, team, project, models, priority, most_output, most_prompt, created, expires, revoked = row
        terms = Terms(
            name=name,
            team=team,
            project=project,
            models=None if models is None else tuple(orjson.loads(models)),
            priority=int(priority),
            max_output_tokens=most_output,
            max_prompt_tokens=most_prompt,
            expires=expires,
            limits=limits.get(f"key:{key_id}", ()),
        )
        own = sorted(secrets.get(key_id, ()), key=lambda s: (s.retires is not None, -(s.retires or 0)))
        found.append(Key(key_id, terms, int(created), revoked, tuple(own)))
    return found


def _find(view: Transaction, reference: str) -> Key:
    reference = recognised(reference)
    if reference.startswith(PREFIX):
        where = "WHERE id IN (SELECT key_id FROM pygate_secrets WHERE prefix = ?)"
    else:
        where = "WHERE id = ?"
    found = _keys(view, where, [reference])
    if not found:
        named = _keys(view, "WHERE name = ?", [reference])
        # A name may be used again once its key is revoked.
        found = [key for key in named if key.revoked is None] or named[-1:]
    if not found:
        known = [text for row in view.rows("SELECT id, name FROM pygate_keys") for text in row]
        known += [row[0] for row in view.rows("SELECT prefix FROM pygate_secrets")]
        raise unknown("key", reference, known)
    if len(found) > 1:
        ids = ", ".join(key.id for key in found)
        raise Refusal(f"{len(found)} keys are called `{reference}`", status=409, expected=f"an id: {ids}")
    return found[0]


def _living(key: Key) -> Key:
    if key.revoked is not None:
        raise Refusal(f"key `{key.terms.name}` ({key.id}) is revoked", status=409, expected="a new key")
    return key


def _need_groups(view: Transaction, terms: Terms) -> None:
    for kind, name in (("team", terms.team), ("project", terms.project)):
        if name:
            _need_group(view, kind, name)


def _need_group(view: Transaction, kind: str, name: str) -> None:
    known = [row[0] for row in view.rows(f"SELECT name FROM {GROUPS[kind]}")]
    if name not in known:
        raise unknown(kind, name, known, f"one that exists (`pygate {kind}s create NAME` makes one)")

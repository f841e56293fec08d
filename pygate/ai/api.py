"""The operations on keys, teams, projects and usage, as requests and answers in JSON.

    GET    /ai/keys?team=&project=&all=1        POST /ai/keys          makes one; tells it
    GET    /ai/keys/{key}                       PATCH /ai/keys/{key}   other terms
    POST   /ai/keys/{key}/rotate {"overlap"}    DELETE /ai/keys/{key}  revokes it
    GET    /ai/teams                            POST /ai/teams {"name", "limits"}
    GET    /ai/teams/{name}                     PATCH, DELETE          /ai/projects alike
    GET    /ai/usage?by=key&since=7d&until=&key=&team=&project=&model=&target=&provider=

`{key}` is an id, a name or what a key begins with. Errors are `{"error": {"message", "expected", "nearest"}}`.

Rules:

1. The key itself is in the answers to its making and its rotation and nowhere else.
2. The admin listener and a command line without a gateway answer by this module alone, so both say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

from pygate.ai import limits, secret, wishes
from pygate.ai.database import StoreError
from pygate.ai.refusal import Refusal, nearest
from pygate.ai.store import Group, Key, Store
from pygate.ai.usage import BY, Ledger, grouping

PREFIX = "/ai/"
_PLACES = ("keys", "teams", "projects", "usage")


@dataclass(frozen=True)
class Answer:
    """A status as in HTTP, and JSON."""

    status: int
    value: Any


class Operations:
    """Everything blocks; see `pygate.ai.database`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._ledger = Ledger(store.database)

    def answer(self, method: str, path: str, query: str, body: bytes, now: int) -> Answer:
        """Does what is asked. Never raises for what was asked, nor for a store that cannot be used."""
        try:
            parts = [unquote(part) for part in path.removeprefix(PREFIX).split("/")]
            asked = _query(query)
            return self._route(method, parts, asked, body, now)
        except Refusal as e:
            return Answer(e.status, {"error": e.as_dict()})
        except StoreError as e:
            return Answer(503, {"error": Refusal(str(e)).as_dict()})

    def _route(self, method: str, parts: list[str], asked: dict[str, str], body: bytes, now: int) -> Answer:
        match parts:
            case ["keys"]:
                if _method(method, "GET", "POST") == "GET":
                    return Answer(200, self._list(asked, now))
                return self._create(_json(body), now)
            case ["keys", reference] if reference:
                return self._key(_method(method, "GET", "PATCH", "DELETE"), reference, body, now)
            case ["keys", reference, "rotate"] if reference:
                _method(method, "POST")
                return self._rotate(reference, _json(body), now)
            case ["teams" | "projects" as kind]:
                return self._groups(_method(method, "GET", "POST"), kind[:-1], body, now)
            case ["teams" | "projects" as kind, name] if name:
                return self._group(_method(method, "GET", "PATCH", "DELETE"), kind[:-1], name, body, now)
            case ["usage"]:
                _method(method, "GET")
                return Answer(200, self._usage(asked, now))
        paths = ", ".join(f"{PREFIX}{place}" for place in _PLACES)
        raise Refusal("no such path", status=404, expected=paths, nearest=nearest(parts[0], _PLACES))

    # --- keys ---

    def _list(self, asked: dict[str, str], now: int) -> dict[str, Any]:
        wishes.table(asked, ("team", "project", "all"))
        keys = self.store.keys(asked.get("team"), asked.get("project"))
        everyone = asked.get("all", "0") not in ("", "0", "false")
        return {"keys": [key_as_dict(key, now) for key in keys if everyone or key.state(now) == "active"]}

    def _create(self, body: Any, now: int) -> Answer:
        terms = wishes.terms(body, now)
        fresh = secret.make()
        key = self.store.create(terms, fresh, now)
        return Answer(201, key_as_dict(key, now) | {"key": fresh.plain})

    def _key(self, method: str, reference: str, body: bytes, now: int) -> Answer:
        match method:
            case "GET":
                return Answer(200, self._show(self.store.find(reference), now))
            case "PATCH":
                key = self.store.find(reference)
                key = self.store.change(key.id, wishes.terms(_json(body), now, key.terms))
            case _:
                key = self.store.revoke(reference, now)
        return Answer(200, key_as_dict(key, now))

    def _show(self, key: Key, now: int) -> dict[str, Any]:
        """With everything that limits it, and how much of that is used."""
        groups = self.store.group_limits()
        scoped = [(f"key:{key.id}", limit) for limit in key.terms.limits]
        for scope in (f"team:{key.terms.team}", f"project:{key.terms.project}"):
            scoped += [(scope, limit) for limit in groups.get(scope, ())]
        return key_as_dict(key, now) | {"holds": self._used(scoped, now)}

    def _used(self, scoped: list[tuple[str, limits.Limit]], now: int) -> list[dict[str, Any]]:
        used = self._ledger.used([(scope, limit.kind, limit.window) for scope, limit in scoped], now)
        by_place = {entry[:3]: entry[3] for entry in used}
        return [
            {"scope": scope}
            | limit.as_dict()
            | {"used": by_place[scope, limit.kind, limit.window], "resets": limits.end(limit.window, now)}
            for scope, limit in scoped
        ]

    def _rotate(self, reference: str, body: Any, now: int) -> Answer:
        overlap = wishes.overlap(wishes.table(body, ("overlap",)).get("overlap"))
        fresh = secret.make()
        key = self.store.rotate(reference, fresh, overlap, now)
        return Answer(200, key_as_dict(key, now) | {"key": fresh.plain})

    # --- teams and projects ---

    def _groups(self, method: str, kind: str, body: bytes, now: int) -> Answer:
        if method == "GET":
            return Answer(200, {f"{kind}s": [group_as_dict(group) for group in self.store.groups(kind)]})
        given = wishes.table(_json(body), ("name", "limits"))
        name = wishes.group_name(kind, given.get("name"))
        group = self.store.create_group(kind, name, limits.read_all(given.get("limits", [])), now)
        return Answer(201, group_as_dict(group))

    def _group(self, method: str, kind: str, name: str, body: bytes, now: int) -> Answer:
        if method == "DELETE":
            self.store.remove_group(kind, name)
            return Answer(200, {"removed": name})
        group = self.store.group(kind, name)
        if method == "PATCH":
            given = wishes.table(_json(body), ("limits",))
            if "limits" in given:
                group = self.store.change_group(kind, name, limits.read_all(given["limits"]))
            return Answer(200, group_as_dict(group))
        holds = self._used([(f"{kind}:{name}", limit) for limit in group.limits], now)
        return Answer(200, group_as_dict(group) | {"holds": holds})

    # --- usage ---

    def _usage(self, asked: dict[str, str], now: int) -> dict[str, Any]:
        only = tuple(name for name in BY if name != "day")
        wishes.table(asked, ("by", "since", "until", *only))
        by = grouping(asked.get("by", "key"))
        since = wishes.since(asked.get("since", "7d"), now, "since")
        until = wishes.since(asked["until"], now, "until") if "until" in asked else now + 60
        chosen = {name: asked[name] for name in only if name in asked}
        if chosen.get("key"):
            chosen["key"] = self.store.find(chosen["key"]).id
        rows, total = self._ledger.told(by, since, until, chosen)
        return {"by": by, "since": since, "until": until, "rows": rows, "total": total}


def key_as_dict(key: Key, now: int) -> dict[str, Any]:
    """A key without anything that opens it."""
    terms = key.terms
    return {
        "id": key.id,
        "name": terms.name,
        "state": key.state(now),
        "team": terms.team,
        "project": terms.project,
        "models": terms.models,
        "priority": terms.priority,
        "max_output_tokens": terms.max_output_tokens,
        "max_prompt_tokens": terms.max_prompt_tokens,
        "created": key.created,
        "expires": terms.expires,
        "revoked": key.revoked,
        "secrets": [
            {"prefix": s.prefix, "created": s.created, "retires": s.retires}
            for s in key.secrets
            if s.retires is None or s.retires > now
        ],
        "limits": [limit.as_dict() for limit in terms.limits],
    }


def group_as_dict(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "created": group.created,
        "keys": group.keys,
        "limits": [limit.as_dict() for limit in group.limits],
    }


def _method(method: str, *allowed: str) -> str:
    if method not in allowed:
        raise Refusal(f"{method} is not for this path", status=405, expected=" or ".join(allowed))
    return method


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as e:
        raise Refusal(f"the body is not JSON: {e}") from None


def _query(query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=20))
    except ValueError:
        raise Refusal("the query has too many fields") from None

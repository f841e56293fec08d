"""The operations as requests and answers in JSON."""

from __future__ import annotations

import logging
from typing import Any

import orjson
import pytest

from pygate.ai import secret
from pygate.ai.api import Operations
from pygate.ai.database import StoreError
from pygate.ai.limits import DAY, HOUR
from pygate.ai.store import Store
from pygate.ai.usage import Ledger, add_up
from tests.ai.calls import call
from tests.ai.conftest import NOW


class Asked:
    """Asks at one moment."""

    def __init__(self, store: Store) -> None:
        self.operations = Operations(store)
        self.now = NOW

    def __call__(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        path, _, query = target.partition("?")
        payload = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        answer = self.operations.answer(method, path, query, payload, self.now)
        return answer.status, orjson.loads(orjson.dumps(answer.value))


@pytest.fixture
def ask(store: Store) -> Asked:
    return Asked(store)


def test_a_key_from_its_making_to_its_end(ask: Asked) -> None:
    assert ask("POST", "/ai/teams", {"name": "platform", "limits": ["usd:month:500.00"]})[0] == 201
    status, made = ask(
        "POST",
        "/ai/keys",
        {"name": "ci", "team": "platform", "models": ["fast"], "expires": "90d", "limits": ["usd:month:50.00"]},
    )
    assert status == 201
    plain = made.pop("key")
    assert plain.startswith("pk-") and len(plain) == 53
    assert made == {
        "id": made["id"],
        "name": "ci",
        "state": "active",
        "team": "platform",
        "project": "",
        "models": ["fast"],
        "priority": 0,
        "max_output_tokens": None,
        "max_prompt_tokens": None,
        "created": NOW,
        "expires": NOW + 90 * DAY,
        "revoked": None,
        "secrets": [{"prefix": plain[:9], "created": NOW, "retires": None}],
        "limits": [{"kind": "nano_usd", "window": "month", "max": 50_000_000_000, "usd": "50.00"}],
    }
    assert ask("GET", "/ai/keys") == (200, {"keys": [made]})
    assert ask("GET", "/ai/keys?team=platform&all=1")[1]["keys"] == [made]

    status, rotated = ask("POST", f"/ai/keys/{made['id']}/rotate", {"overlap": "2h"})
    assert status == 200 and rotated.pop("key") != plain
    assert [s["retires"] for s in rotated["secrets"]] == [None, NOW + 2 * HOUR]

    status, other = ask("PATCH", "/ai/keys/ci", {"models": None, "priority": 9, "expires": None})
    assert (status, other["models"], other["priority"], other["expires"]) == (200, None, 9, None)
    assert other["limits"] == made["limits"], "what is not named stays"

    status, gone = ask("DELETE", "/ai/keys/ci")
    assert (status, gone["state"], gone["revoked"]) == (200, "revoked", NOW)
    assert ask("GET", "/ai/keys")[1] == {"keys": []}
    assert [k["state"] for k in ask("GET", "/ai/keys?all=1")[1]["keys"]] == ["revoked"]
    assert ask("DELETE", "/ai/keys/ci")[0] == 409


def test_a_key_is_told_when_it_is_made_and_rotated_and_never_again(
    ask: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    plain = [ask("POST", "/ai/keys", {"name": "ci"})[1]["key"], ask("POST", "/ai/keys/ci/rotate")[1]["key"]]
    answers = [
        ask("GET", "/ai/keys"),
        ask("GET", "/ai/keys/ci"),
        ask("PATCH", "/ai/keys/ci", {"priority": 1}),
        # People paste whole keys where an id is asked for.
        ask("GET", f"/ai/keys/{plain[0]}"),
        ask("GET", f"/ai/keys/{secret.make().plain}"),
        ask("DELETE", f"/ai/keys/{plain[1]}"),
        ask("POST", f"/ai/keys/{plain[1]}/rotate"),
        ask("GET", "/ai/usage"),
    ]
    assert [status for status, _ in answers] == [200, 200, 200, 200, 404, 200, 409, 200]
    for text in plain:
        assert text[9:] not in repr(answers) + caplog.text
        assert text[9:] not in repr(ask.operations.store.keys())


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "nearest"),
    [
        ("POST", "/ai/keys", {}, 400, None),
        ("POST", "/ai/keys", {"name": "x", "modles": []}, 400, "models"),
        ("POST", "/ai/keys", {"name": "x", "models": []}, 400, None),
        ("POST", "/ai/keys", {"name": "x", "models": ["a", 3]}, 400, None),
        ("POST", "/ai/keys", {"name": "pk-abc"}, 400, None),
        ("POST", "/ai/keys", {"name": "x\n"}, 201, None),
        ("POST", "/ai/keys", {"name": "x\ny"}, 400, None),
        ("POST", "/ai/keys", {"name": "x", "priority": 10}, 400, None),
        ("POST", "/ai/keys", {"name": "x", "priority": True}, 400, None),
        ("POST", "/ai/keys", {"name": "x", "expires": "yesterday"}, 400, None),
        ("POST", "/ai/keys", {"name": "x", "expires": 1}, 400, None),
        ("POST", "/ai/keys", {"name": "x", "max_output_tokens": 1.5}, 400, None),
        ("POST", "/ai/keys", {"name": "x", "limits": ["usd:moth:1"]}, 400, "month"),
        ("POST", "/ai/keys", {"name": "x", "limits": "usd:month:1"}, 400, None),
        ("POST", "/ai/keys", {"name": "x", "team": "platfrom"}, 404, "platform"),
        ("POST", "/ai/keys", {"name": "x", "team": "a:b"}, 400, None),
        ("POST", "/ai/keys", b"{", 400, None),
        ("POST", "/ai/keys", b"[]", 400, None),
        ("PUT", "/ai/keys", None, 405, None),
        ("GET", "/ai/keys/reprots", None, 404, "reports"),
        ("POST", "/ai/keys/reports/rotate", {"overlap": "soon"}, 400, None),
        ("POST", "/ai/keys/reports/rotate", {"overlap": -1}, 400, None),
        ("POST", "/ai/keys/reports/rotate", {"overlp": "1h"}, 400, "overlap"),
        ("GET", "/ai/keys/reports/rotate", None, 405, None),
        ("POST", "/ai/teams", {"name": "platform"}, 409, None),
        ("POST", "/ai/teams", {"name": "../x"}, 400, None),
        ("GET", "/ai/projects/none", None, 404, None),
        ("GET", "/ai/usage?by=modle", None, 400, "model"),
        ("GET", "/ai/usage?sinse=7d", None, 400, "since"),
        ("GET", "/ai/usage?since=sevendays", None, 400, None),
        ("GET", "/ai/usage?key=reprots", None, 404, "reports"),
        ("GET", "/ai/keyz", None, 404, "keys"),
        ("GET", "/ai/keys/", None, 404, "keys"),
        ("GET", "/ai/", None, 404, None),
        ("GET", "/ai/usage?" + "&".join(f"a{n}=1" for n in range(30)), None, 400, None),
    ],
)
def test_what_is_asked_wrongly(
    ask: Asked, method: str, target: str, body: Any, status: int, nearest: str | None
) -> None:
    ask("POST", "/ai/teams", {"name": "platform"})
    ask("POST", "/ai/keys", {"name": "reports"})
    version = ask.operations.store.version()
    got, value = ask(method, target, body)
    assert got == status, value
    if status >= 400:
        assert set(value) == {"error"} and set(value["error"]) == {"message", "expected", "nearest"}
        assert value["error"]["nearest"] == nearest and value["error"]["message"]
        assert ask.operations.store.version() == version


def test_a_key_shows_what_holds_for_it_and_what_is_left(ask: Asked, store: Store) -> None:
    ask("POST", "/ai/teams", {"name": "platform", "limits": ["usd:month:0.000003"]})
    key = ask("POST", "/ai/keys", {"name": "ci", "team": "platform", "limits": ["requests:minute:5"]})[1]
    Ledger(store.database).add("x", {}, {"w": (1, 1, 1)}, add_up([call(key=key["id"])] * 2))
    holds = ask("GET", "/ai/keys/ci")[1]["holds"]
    assert holds == [
        {
            "scope": f"key:{key['id']}",
            "kind": "requests",
            "window": "minute",
            "max": 5,
            "used": 2,
            "resets": NOW + 60 - NOW % 60,
        },
        {
            "scope": "team:platform",
            "kind": "nano_usd",
            "window": "month",
            "max": 3_000,
            "usd": "0.000003",
            "used": 3_000,
            "resets": 1_796_083_200,
        },
    ]
    assert ask("GET", "/ai/teams/platform")[1]["holds"] == [holds[1]]


def test_usage_over_the_api(ask: Asked, store: Store) -> None:
    key = ask("POST", "/ai/keys", {"name": "ci"})[1]
    ledger = Ledger(store.database)
    ledger.add("x", {}, {"w": (1, 1, 1)}, add_up([call(key=key["id"]), call(NOW - 8 * DAY, key=key["id"])]))
    status, told = ask("GET", "/ai/usage?by=key")
    assert status == 200 and told["since"] == NOW - 7 * DAY
    assert [(r["key"], r["name"], r["requests"]) for r in told["rows"]] == [(key["id"], "ci", 1)]
    assert ask("GET", f"/ai/usage?by=day&since=30d&key={key['id']}")[1]["total"]["requests"] == 2
    assert ask("GET", "/ai/usage?since=30d&until=8d")[1]["total"]["requests"] == 0
    assert ask("GET", "/ai/usage?since=2026-11-17&until=2026-11-18&model=fast")[1]["total"]["requests"] == 1


def test_a_store_that_is_away_is_said_to_be(ask: Asked, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(reference: str) -> None:
        raise StoreError("the store is away")

    monkeypatch.setattr(store, "find", away)
    assert ask("GET", "/ai/keys/ci") == (
        503,
        {"error": {"message": "the store is away", "expected": None, "nearest": None}},
    )

"""What workers are told of keys: the contract between Python and Rust, field by field."""

from __future__ import annotations

import stat
from pathlib import Path

import orjson
import pytest

from pygate.ai import secret, snapshot
from pygate.ai.limits import Limit
from pygate.ai.store import Store, Terms
from tests.ai.conftest import NOW

USD, MINUTE, DAY = Limit("nano_usd", "month", 5), Limit("requests", "minute", 100), Limit("total_tokens", "day", 9)


def test_a_snapshot_is_the_contract(store: Store) -> None:
    store.create_group("team", "platform", (USD,), NOW)
    store.create_group("project", "search", (DAY,), NOW)
    fresh = secret.make()
    key = store.create(Terms("ci", "platform", "search", ("fast", "gpt-*"), 3, 10, 20, NOW + 9, (MINUTE,)), fresh, NOW)
    data, counters = snapshot.compose(store, NOW)
    assert orjson.loads(data) == {
        "version": store.version(),
        "keys": [
            {
                "id": key.id,
                "name": "ci",
                "sha256": fresh.sha256,
                "team": "platform",
                "project": "search",
                "models": ["fast", "gpt-*"],
                "expires": NOW + 9,
                "priority": 3,
                "max_output_tokens": 10,
                "max_prompt_tokens": 20,
                "limits": [
                    {"scope": f"key:{key.id}", "kind": "requests", "window": "minute", "max": 100},
                    {"scope": "team:platform", "kind": "nano_usd", "window": "month", "max": 5},
                    {"scope": "project:search", "kind": "total_tokens", "window": "day", "max": 9},
                ],
            }
        ],
    }
    assert snapshot.version_of(data) == store.version()
    assert (
        counters
        == snapshot.counters(data)
        == {
            (f"key:{key.id}", "requests", "minute"),
            ("team:platform", "nano_usd", "month"),
            ("project:search", "total_tokens", "day"),
        }
    )


def test_only_keys_that_open_something_are_in_it(store: Store) -> None:
    store.create(Terms("expired", expires=NOW), secret.make(), NOW - 9)
    gone = store.create(Terms("revoked"), secret.make(), NOW)
    store.revoke(gone.id, NOW)
    store.create(Terms("plain"), secret.make(), NOW)
    (entry,) = orjson.loads(snapshot.compose(store, NOW)[0])["keys"]
    assert (entry["name"], entry["models"], entry["expires"], entry["limits"]) == ("plain", None, None, [])


@pytest.mark.parametrize(("expires", "ends"), [(None, [None, NOW + 60]), (NOW + 30, [NOW + 30, NOW + 30])])
def test_a_rotated_key_has_an_entry_per_secret(store: Store, expires: int | None, ends: list[int | None]) -> None:
    old, new = secret.make(), secret.make()
    key = store.create(Terms("ci", expires=expires), old, NOW)
    store.rotate(key.id, new, 60, NOW)
    keys = orjson.loads(snapshot.compose(store, NOW)[0])["keys"]
    assert [(k["id"], k["sha256"], k["expires"]) for k in keys] == [
        (key.id, new.sha256, ends[0]),
        (key.id, old.sha256, ends[1]),
    ]
    if expires is None:
        (left,) = orjson.loads(snapshot.compose(store, NOW + 60)[0])["keys"]
        assert left["sha256"] == new.sha256, "the old one has retired"


def test_the_file_is_ours_alone_and_whole(tmp_path: Path) -> None:
    path = tmp_path / snapshot.FILE
    assert snapshot.read(path) == b""
    for text in (b'{"version":1,"keys":[]}', b'{"version":2,"keys":[]}'):
        snapshot.write(path, text)
        assert path.read_bytes() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [snapshot.FILE]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"keys":[],"version":3}', b'{"version":"3","keys":[{}]}', b"null"]
)
def test_what_is_no_snapshot_has_no_version_and_no_counters(data: bytes) -> None:
    assert snapshot.version_of(data) == 0
    assert snapshot.counters(data) == set()

"""Keys, teams and projects in SQLite and PostgreSQL: the same answers from both."""

from __future__ import annotations

import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pygate.ai import migrations, secret
from pygate.ai.database import StoreError, open_database
from pygate.ai.limits import Limit
from pygate.ai.refusal import Refusal
from pygate.ai.store import Store, Terms
from tests.ai.conftest import NOW
from tests.ai.postgres import Server

USD = Limit("nano_usd", "month", 50_000_000_000)
MINUTE = Limit("requests", "minute", 100)


def test_a_key_is_kept_as_it_was_wished(store: Store) -> None:
    store.create_group("team", "platform", (USD,), NOW)
    store.create_group("project", "search", (), NOW)
    terms = Terms("ci", "platform", "search", ("fast", "gpt-*"), 7, 4096, 100_000, NOW + 90, (USD, MINUTE))
    fresh = secret.make()
    made = store.create(terms, fresh, NOW)
    assert made.id.startswith("key_") and made.created == NOW and made.revoked is None
    assert [s.sha256 for s in made.secrets] == [fresh.sha256]
    for reference in (made.id, "ci", fresh.prefix, fresh.plain):
        assert store.find(reference) == made
    assert made.terms == replace(terms, limits=(USD, MINUTE))
    assert (made.state(NOW), made.state(NOW + 90)) == ("active", "expired")
    assert store.keys("platform") == store.keys(None, "search") == [made]


def test_what_is_not_wished_is_nothing(store: Store) -> None:
    made = store.create(Terms("x"), secret.make(), NOW)
    assert made.terms == Terms("x")
    assert store.find("x") == made


def test_unknown_names_are_refused_with_the_nearest(store: Store) -> None:
    store.create_group("team", "platform", (), NOW)
    store.create(Terms("reports"), secret.make(), NOW)
    with pytest.raises(Refusal) as team:
        store.create(Terms("x", team="platfrom"), secret.make(), NOW)
    with pytest.raises(Refusal) as key:
        store.find("report")
    with pytest.raises(Refusal) as filtered:
        store.keys(team="platforms")
    assert [e.value.nearest for e in (team, key, filtered)] == ["platform", "reports", "platform"]
    assert team.value.status == 404
    assert [k.terms.name for k in store.keys()] == ["reports"]


def test_two_keys_of_a_name_need_an_id_until_one_is_revoked(store: Store) -> None:
    first = store.create(Terms("ci"), secret.make(), NOW)
    second = store.create(Terms("ci"), secret.make(), NOW + 1)
    with pytest.raises(Refusal, match="2 keys are called `ci`") as caught:
        store.revoke("ci", NOW)
    assert first.id in str(caught.value) and second.id in str(caught.value)
    store.revoke(first.id, NOW + 2)
    assert store.find("ci").id == second.id
    store.revoke("ci", NOW + 3)
    assert store.find("ci").id == second.id


def test_rotation_lets_old_secrets_retire(store: Store) -> None:
    secrets = [secret.make() for _ in range(4)]
    key = store.create(Terms("ci"), secrets[0], NOW)
    store.rotate(key.id, secrets[1], 3600, NOW)
    key = store.rotate(key.id, secrets[2], 7200, NOW + 10)
    ends = {s.sha256: s.retires for s in key.secrets}
    # A longer overlap does not lengthen what was to end sooner.
    assert [ends[s.sha256] for s in secrets[:3]] == [NOW + 3600, NOW + 7210, None]
    assert key.secrets[0].sha256 == secrets[2].sha256, "the newest comes first"
    key = store.rotate(key.id, secrets[3], 0, NOW + 20)
    ends = {s.sha256: s.retires for s in key.secrets}
    assert [ends[s.sha256] for s in secrets] == [NOW + 20, NOW + 20, NOW + 20, None]


def test_revoked_is_for_good(store: Store) -> None:
    key = store.create(Terms("ci"), secret.make(), NOW)
    assert store.revoke("ci", NOW + 5).revoked == NOW + 5
    with pytest.raises(Refusal, match="is revoked"):
        store.revoke(key.id, NOW + 6)
    with pytest.raises(Refusal, match="is revoked"):
        store.rotate(key.id, secret.make(), 0, NOW)
    with pytest.raises(Refusal, match="is revoked"):
        store.change(key.id, Terms("other"))
    assert store.find(key.id).revoked == NOW + 5
    assert store.accepted(NOW)[1] == []


def test_groups_have_limits_and_go_only_without_keys(store: Store) -> None:
    store.create_group("team", "platform", (USD,), NOW)
    with pytest.raises(Refusal, match="exists already"):
        store.create_group("team", "platform", (), NOW)
    key = store.create(Terms("ci", team="platform"), secret.make(), NOW)
    assert store.change_group("team", "platform", (MINUTE, USD)).limits == (USD, MINUTE)
    assert store.group("team", "platform").keys == 1
    with pytest.raises(Refusal, match="has 1 key"):
        store.remove_group("team", "platform")
    store.revoke(key.id, NOW)
    store.remove_group("team", "platform")
    assert store.groups("team") == []
    assert store.accepted(NOW)[2] == [], "its limits went with it"
    # A project of the same name is another thing.
    assert store.create_group("project", "platform", (), NOW).limits == ()


def test_every_change_has_a_version_and_a_refused_one_has_none(store: Store) -> None:
    seen = [store.version()]
    key = store.create(Terms("ci"), secret.make(), NOW)
    seen.append(store.version())
    store.change(key.id, replace(key.terms, priority=3))
    seen.append(store.version())
    store.rotate(key.id, secret.make(), 0, NOW)
    seen.append(store.version())
    store.create_group("team", "t", (), NOW)
    seen.append(store.version())
    with pytest.raises(Refusal):
        store.create(Terms("x", team="nobody"), secret.make(), NOW)
    assert seen == sorted(set(seen)) and store.version() == seen[-1]


def test_no_text_of_the_database_opens_anything(url: str, tmp_path: Path) -> None:
    store = Store.open(url)
    fresh, next_one = secret.make(), secret.make()
    key = store.create(Terms("ci"), fresh, NOW)
    store.rotate(key.id, next_one, 60, NOW)
    with store.database.read() as view:
        told = repr([view.rows(f"SELECT * FROM pygate_{name}") for name in ("keys", "secrets", "limits", "meta")])
    store.close()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "store").glob("*")) if url.startswith("sqlite") else b""
    for one in (fresh, next_one):
        random = one.plain[secret.PREFIX_LENGTH :]
        assert one.prefix in told and random not in told and random.encode() not in kept
        assert one.plain not in repr(one)


def test_several_writers_take_turns(url: str) -> None:
    Store.open(url).close()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            store = Store.open(url)
            for count in range(10):
                store.create(Terms(f"{number}-{count}", limits=(MINUTE,)), secret.make(), NOW)
            store.close()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    store = Store.open(url)
    assert len(store.keys()) == 40 and store.version() == 41
    store.close()


def test_opening_again_changes_nothing_and_a_newer_store_is_refused(url: str) -> None:
    first = Store.open(url)
    key = first.create(Terms("ci"), secret.make(), NOW)
    first.close()
    again = Store.open(url)
    assert again.keys() == [key]
    with again.database.write() as change:
        change.execute("UPDATE pygate_meta SET number = ? WHERE name = 'schema'", len(migrations.MIGRATIONS) + 1)
    again.close()
    with pytest.raises(StoreError, match="made by a newer pygate"):
        Store.open(url)


def test_a_failure_in_the_middle_leaves_nothing(store: Store) -> None:
    before = store.version()
    with pytest.raises(StoreError, match="failed"), store.database.write() as change:
        change.execute("INSERT INTO pygate_teams (name, created) VALUES (?, ?)", "half", NOW)
        change.execute("INSERT INTO pygate_nothing (name) VALUES (?)", "x")
    assert store.groups("team") == [] and store.version() == before


def test_the_sqlite_file_is_ours_alone(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:{tmp_path}/deep/keys.db")
    store.create(Terms("ci"), secret.make(), NOW)
    files = list((tmp_path / "deep").iterdir())
    assert {path.name for path in files} >= {"keys.db", "keys.db-wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700
    store.close()


def test_a_damaged_file_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    with pytest.raises(StoreError, match="keys.db"):
        Store.open(f"sqlite:{tmp_path}/keys.db")


@pytest.mark.parametrize("url", ["mysql://x", "keys.db", "", "postgresql://[", "postgresql://h/d?nonsense=1"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="URL"):
        open_database(url)


def test_postgresql_may_go_away_and_come_back(server: Server) -> None:
    store = Store.open(server.database())
    key = store.create(Terms("ci"), secret.make(), NOW)
    server.stop()
    try:
        with pytest.raises(StoreError) as caught:
            store.find("ci")
        assert "pygate@" not in str(caught.value)
    finally:
        server.start()
    assert store.find("ci") == key
    store.close()


def test_a_password_is_in_no_error() -> None:
    database = open_database("postgresql://someone:hunter2@127.0.0.1:1/keys")
    with pytest.raises(StoreError) as caught, database.read():
        pass
    assert "hunter2" not in str(caught.value) + database.shown
    assert database.shown == "postgresql://127.0.0.1/keys"

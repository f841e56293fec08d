"""Following the audit log: every call once, whatever dies, whoever else follows."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from pygate._core import AuditLogWriter, encode_audit_intent, encode_audit_outcome
from pygate.ai import follower as module
from pygate.ai.database import StoreError
from pygate.ai.follower import Follower, source_of
from pygate.ai.store import Store
from pygate.ai.usage import Ledger, Place
from pygate.audit.tail import Marks
from tests.ai.calls import PLAIN, Log, call
from tests.ai.conftest import NOW


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(module, "AuditTail", log.open)
    return log


def counted(store: Store) -> tuple[int, int]:
    """Requests and nano-USD in the store."""
    total = Ledger(store.database).told(("key",), 0, 2 * NOW, {})[1]
    return total["requests"], total["nano_usd"]


def test_every_call_is_added_once_over_restarts(store: Store, log: Log, tmp_path: Path) -> None:
    for count in range(10):
        log.write("worker-0", call(nano_usd=count), PLAIN)
    for count in range(10, 20):
        log.write("worker-1", call(NOW + count * 60, nano_usd=count))
    first = Follower(Ledger(store.database), tmp_path)
    assert first.catch_up(10)
    assert counted(store) == (20, sum(range(20)))
    log.write("worker-0", call(nano_usd=1_000))
    log.write("worker-2", call(nano_usd=2_000))
    second = Follower(Ledger(store.database), tmp_path)
    assert second.catch_up(10)
    assert counted(store) == (22, sum(range(20)) + 3_000)
    assert second.catch_up(10)
    assert counted(store)[0] == 22


def test_whatever_dies_at_whatever_moment(store: Store, log: Log, tmp_path: Path) -> None:
    """A ledger that fails before or after its transaction, followers that are lost: the sums are the log's."""
    dice = random.Random(4)

    class Failing(Ledger):
        def add(self, source: str, before: Marks, after: Marks, sums: dict[Place, list[int]]) -> None:
            fate = dice.random()
            if fate < 0.25:
                raise StoreError("lost before")
            super().add(source, before, after, sums)
            if fate > 0.75:
                raise StoreError("lost the answer")

    follower, failed, written = Follower(Failing(store.database), tmp_path), 0, 0
    for step in range(150):
        if dice.random() < 0.6:
            log.write(f"worker-{dice.randrange(3)}", *([call(NOW + step, nano_usd=step)] * dice.randrange(1, 5)), PLAIN)
        try:
            follower.read()
        except StoreError:
            failed += 1
        if dice.random() < 0.2:
            follower = Follower(Failing(store.database), tmp_path)
    assert failed > 20
    assert Follower(Ledger(store.database), tmp_path).catch_up(10)
    calls = [c["llm"]["nano_usd"] for calls in log.calls.values() for c in calls if "llm" in c]
    written = len(calls)
    assert written > 100 and counted(store) == (written, sum(calls))


def test_two_followers_of_one_log_add_it_once(url: str, log: Log, tmp_path: Path) -> None:
    stores = [Store.open(url) for _ in range(2)]
    for _ in range(60):
        log.write("worker-0", call())
    failures: list[BaseException] = []
    start = threading.Barrier(2)

    def work(store: Store) -> None:
        try:
            follower = Follower(Ledger(store.database), tmp_path)
            start.wait()
            assert follower.catch_up(60)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert counted(stores[0]) == (60, 60 * 1_500)
    for store in stores:
        store.close()


def test_two_audit_directories_in_one_store(store: Store, log: Log, tmp_path: Path) -> None:
    log.write("worker-0", call())
    for name in ("one", "two"):
        assert Follower(Ledger(store.database), tmp_path / name).catch_up(10)
    assert counted(store)[0] == 2, "logs of the same name, in directories of different ids"
    assert source_of(tmp_path / "one") == source_of(tmp_path / "one") != source_of(tmp_path / "two")


def test_a_store_that_is_made_anew_is_filled_from_the_log(log: Log, tmp_path: Path) -> None:
    log.write("worker-0", call(), call())
    for name in ("a.db", "b.db"):
        store = Store.open(f"sqlite:{tmp_path}/{name}")
        assert Follower(Ledger(store.database), tmp_path).catch_up(10)
        assert counted(store) == (2, 3_000)
        store.close()


def test_other_calls_cost_no_transaction(store: Store, log: Log, tmp_path: Path) -> None:
    added: list[Marks] = []

    class Counting(Ledger):
        def add(self, source: str, before: Marks, after: Marks, sums: dict[Place, list[int]]) -> None:
            added.append(after)
            super().add(source, before, after, sums)

    ledger = Counting(store.database)
    follower = Follower(ledger, tmp_path)
    log.write("worker-0", *[PLAIN] * 30)
    assert follower.catch_up(10) and added == []
    follower.close()
    assert len(added) == 1 and list(ledger.marks(source_of(tmp_path)).values()) == [(1, 3000, 30)]


def test_a_real_log_is_followed(tmp_path: Path) -> None:
    """Its records have no model: they are read, and marks move."""
    writer = AuditLogWriter(tmp_path / "audit", flush_interval=0.005)
    for n in range(50):
        exchange = n.to_bytes(16, "big")
        writer.append(encode_audit_intent(exchange, NOW * 10**9), 1, False)
        writer.append(encode_audit_outcome(exchange, NOW * 10**9), 1, False)
    writer.flush_and_stop()
    store = Store.open(f"sqlite:{tmp_path}/keys.db")
    follower = Follower(Ledger(store.database), tmp_path / "audit")
    assert follower.catch_up(10)
    follower.close()
    (mark,) = Ledger(store.database).marks(source_of(tmp_path / "audit")).values()
    assert mark[2] == 101, "the next sequence"
    assert counted(store) == (0, 0) and follower.damaged == 0
    store.close()

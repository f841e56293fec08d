"""Keys and usage inside the control process: what happens when the store or the log is not as it should be."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pygate.ai import follower as follower_module
from pygate.ai import secret, snapshot
from pygate.ai.database import StoreError
from pygate.ai.limits import Limit
from pygate.ai.service import Ai
from pygate.ai.settings import Settings
from pygate.ai.store import Store, Terms
from pygate.ai.usage import Ledger
from tests.ai.calls import Log, call
from tests.ai.conftest import NOW
from tests.ai.postgres import Server

USD = Limit("nano_usd", "month", 10**12)


class Budgets:
    def __init__(self) -> None:
        self.restored: list[list[tuple[str, str, str, int]]] = []

    def restore_budgets(self, entries: list[tuple[str, str, str, int]]) -> None:
        self.restored.append(entries)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(follower_module, "AuditTail", log.open)
    return log


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Ai]:
    (tmp_path / "run").mkdir()
    return lambda url: Ai(Settings(url, tmp_path / "audit", True), tmp_path / "run", clock=lambda: NOW)


def keys_in(ai: Ai) -> list[str]:
    return [key["name"] for key in orjson.loads(ai.path.read_bytes())["keys"]]


def test_counters_are_restored_from_the_whole_log_before_workers_start(
    url: str, make: Callable[[str], Ai], log: Log
) -> None:
    store = Store.open(url)
    key = store.create(Terms("ci", limits=(USD,)), secret.make(), NOW)
    log.write("worker-0", *[call(key=key.id, nano_usd=7)] * 20)
    ai, budgets = make(url), Budgets()
    ai.prepare(budgets, kept=False)
    assert budgets.restored == [[(f"key:{key.id}", "nano_usd", "month", 140)]]
    assert keys_in(ai) == ["ci"] and ai.version == store.version()
    ai.close()
    # Counters that a predecessor left are right already; only new limits are not.
    store.create_group("team", "platform", (Limit("requests", "day", 5),), NOW)
    store.create(Terms("other", team="platform"), secret.make(), NOW)
    log.write("worker-0", call(team="platform"))
    ai, budgets = make(url), Budgets()
    ai.prepare(budgets, kept=True)
    assert budgets.restored == [[("team:platform", "requests", "day", 21)]]
    ai.close()
    store.close()


def test_a_gateway_starts_without_its_store_and_finds_it_later(
    server: Server, make: Callable[[str], Ai], log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.database()
    store = Store.open(url)
    key = store.create(Terms("ci", limits=(USD,)), secret.make(), NOW)
    store.close()
    first = make(url)
    first.prepare(Budgets(), kept=False)
    first.close()
    log.write("worker-0", call(key=key.id, nano_usd=9))

    async def work() -> None:
        ai, budgets = make(url), Budgets()
        server.stop()
        try:
            ai.prepare(budgets, kept=False)
            assert keys_in(ai) == ["ci"] and budgets.restored == [], "the last snapshot serves"
            assert not await ai.poll() and not await ai.poll()
            answer, changed = await ai.answer("GET", "/ai/keys", "", b"")
            assert (answer.status, changed) == (503, False)
        finally:
            server.start()
        assert await ai.poll(), "a new snapshot, although nothing was changed meanwhile"
        assert budgets.restored == [[(f"key:{key.id}", "nano_usd", "month", 9)]]
        assert not await ai.poll()
        ai.close()

    asyncio.run(work())
    assert caplog.text.count("keys cannot be read") == 2, "once at the start, once after"
    assert caplog.text.count("keys can be read again") == 1


def test_without_store_and_snapshot_nobody_is_known(tmp_path: Path, make: Callable[[str], Ai]) -> None:
    ai = make(f"postgresql://pygate@/nothing?host={tmp_path}")
    ai.prepare(Budgets(), kept=False)
    assert orjson.loads(ai.path.read_bytes()) == {"version": 0, "keys": []}
    ai.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://x", "neither sqlite:PATH nor postgresql"),
        ("env:PYGATE_TEST_NOT_SET", "`PYGATE_TEST_NOT_SET` is not set"),
        ("postgresql://someone:hunter2@db/keys", "holds a password"),
        ("postgresql://db/keys?user=x&password=hunter2", "holds a password"),
    ],
)
def test_settings_that_cannot_be_right_stop_the_start(make: Callable[[str], Ai], url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        make(url).prepare(Budgets(), kept=False)
    assert "hunter2" not in str(caught.value)


def test_a_url_with_a_password_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = "postgresql://someone:hunter2@db/keys"
    monkeypatch.setenv("PYGATE_TEST_STORE", url)
    settings = Settings("env:PYGATE_TEST_STORE", tmp_path, True)
    assert settings.resolved() == url and "hunter2" not in repr(settings)
    monkeypatch.setenv("PYGATE_TEST_STORE", "sqlite:k.db")
    assert settings.resolved() == f"sqlite:{tmp_path}/k.db"


def test_what_changes_and_what_is_called_comes_in(url: str, make: Callable[[str], Ai], log: Log) -> None:
    """Both threads at work; the end adds what was written before it."""

    async def work() -> None:
        ai = make(url)
        ai.prepare(Budgets(), kept=False)
        ai.follow()
        other = Store.open(url)
        other.create(Terms("ci"), secret.make(), NOW)
        assert await ai.poll() and keys_in(ai) == ["ci"]
        log.write("worker-0", call(), call())
        ledger, deadline = Ledger(other.database), time.monotonic() + 10
        while ledger.told(("key",), 0, 2 * NOW, {})[1]["requests"] < 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        log.write("worker-1", call())
        ai.close()
        assert ledger.told(("key",), 0, 2 * NOW, {})[1]["requests"] == 3
        assert not [t for t in threading.enumerate() if t.name.startswith(("pygate-keys", "pygate-usage"))]
        other.close()

    asyncio.run(work())


def test_usage_waits_for_a_store_that_is_away(
    server: Server, make: Callable[[str], Ai], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pygate.ai.service.RETRY", 0.1)
    url = server.database()
    ai = make(url)
    ai.prepare(Budgets(), kept=False)
    log.write("worker-0", call())
    ai.follow()
    server.stop()
    log.write("worker-0", *[call()] * 9)
    time.sleep(0.5)
    server.start()
    deadline = time.monotonic() + 15
    store = Store.open(url)
    while Ledger(store.database).told(("key",), 0, 2 * NOW, {})[1]["requests"] < 10:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ai.close()
    assert Ledger(store.database).told(("key",), 0, 2 * NOW, {})[1]["requests"] == 10
    store.close()


def test_the_snapshot_is_not_written_for_nothing(tmp_path: Path, make: Callable[[str], Ai], log: Log) -> None:
    async def work() -> None:
        ai = make(f"sqlite:{tmp_path}/keys.db")
        ai.prepare(Budgets(), kept=False)
        before = ai.path.stat().st_mtime_ns
        for _ in range(3):
            assert not await ai.poll()
            assert not (await ai.answer("GET", "/ai/keys", "", b""))[1]
            assert not (await ai.answer("POST", "/ai/keys", "", b"{}"))[1], "refused"
        assert ai.path.stat().st_mtime_ns == before
        ai.close()

    asyncio.run(work())


def loaded(tmp_path: Path, **value: Any) -> Any:
    class Fake:
        def __init__(self) -> None:
            self.value = value

        def setting(self, *path: str) -> Any:
            assert path == ("audit", "dir")
            return tmp_path / "audit"

    return Fake()


@pytest.mark.parametrize(
    ("value", "url", "wanted"),
    [
        ({}, "sqlite:{}/audit/keys.db", False),
        ({"ai": {}}, "sqlite:{}/audit/keys.db", True),
        ({"ai": {"store": {"url": "sqlite:/var/keys.db"}}}, "sqlite:/var/keys.db", True),
        ({"ai": {"store": {"url": "env:STORE"}}}, "env:STORE", True),
        ({"routes": [{"name": "chat", "llm": {"dialect": "openai"}}]}, "sqlite:{}/audit/keys.db", True),
        ({"routes": [{"name": "plain"}]}, "sqlite:{}/audit/keys.db", False),
    ],
)
def test_settings_by_configuration(tmp_path: Path, value: dict[str, Any], url: str, wanted: bool) -> None:
    settings = Settings.of(loaded(tmp_path, **value))
    assert (settings.url, settings.wanted) == (url.format(tmp_path), wanted)


def test_a_store_that_is_there_is_used_without_being_named(tmp_path: Path) -> None:
    Store.open(f"sqlite:{tmp_path}/audit/keys.db").close()
    assert Settings.of(loaded(tmp_path)).wanted
    assert snapshot.FILE == "keys.json"


def test_no_room_for_a_counter_keeps_no_key_from_workers(
    tmp_path: Path, make: Callable[[str], Ai], log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(Budgets):
        def restore_budgets(self, entries: list[tuple[str, str, str, int]]) -> None:
            raise RuntimeError("the table of budgets is full")

    url = f"sqlite:{tmp_path}/keys.db"
    store = Store.open(url)
    store.create(Terms("ci", limits=(USD,)), secret.make(), NOW)
    ai = make(url)
    ai.prepare(Full(), kept=False)
    assert keys_in(ai) == ["ci"] and "the table of budgets is full" in caplog.text
    ai.close()
    store.close()

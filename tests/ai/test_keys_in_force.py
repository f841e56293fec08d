"""Keys in real workers, with a store in SQLite and in PostgreSQL: changes are answered when they are in force."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from pygate import _core
from pygate.ai import secret
from pygate.ai.limits import Limit
from pygate.ai.store import Store, Terms
from pygate.ai.usage import Ledger, add_up
from tests.ai.calls import call
from tests.ai.postgres import Server
from tests.control.running import Gateway, wait_for


def pygate(gateway: Gateway, *arguments: str, environment: dict[str, str] | None = None) -> Any:
    """The JSON a command prints."""
    command = [sys.executable, "-m", "pygate.cli.main", *arguments, "-c", str(gateway.config), "--json"]
    done = subprocess.run(command, capture_output=True, timeout=60, env={**os.environ, **(environment or {})})
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return json.loads(done.stdout)


def versions(gateway: Gateway) -> set[int]:
    return {worker["keys"] for worker in gateway.state()["workers"]}


def work(gateway: Gateway, environment: dict[str, str]) -> None:
    process = gateway.start(environment)
    before = versions(gateway)
    assert len(before) == 1 and 0 not in before, "workers have keys from the start"
    limits = ("--limit", "usd:month:5.00", "--limit", "requests:minute:3")
    made = pygate(gateway, "keys", "create", "ci", *limits, environment=environment)
    assert made["in_force"] is True
    assert pygate(gateway, "keys", "rotate", "ci", environment=environment)["in_force"] is True
    assert pygate(gateway, "keys", "revoke", made["id"], environment=environment)["in_force"] is True
    (now,) = versions(gateway)
    assert now == before.pop() + 3
    # A worker that starts, and a whole new generation, know the same.
    old = gateway.workers()
    os.kill(old[min(old)], signal.SIGKILL)
    wait_for(lambda: len(gateway.workers()) == 2 and versions(gateway) == {now}, "another worker with the keys")
    assert made["key"][9:] not in gateway.log
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_with_sqlite(gateway: Gateway) -> None:
    gateway.write('[ai.store]\nurl = "sqlite:mine.db"\n')
    work(gateway, {})
    assert (gateway.directory / "audit" / "mine.db").exists()


def test_with_postgresql(gateway: Gateway, server: Server) -> None:
    gateway.write('[ai.store]\nurl = "env:PYGATE_TEST_STORE"\n')
    work(gateway, {"PYGATE_TEST_STORE": server.database()})
    assert not list((gateway.directory / "audit").glob("*.db"))


def test_an_upgrade_keeps_keys_and_follows_changes(gateway: Gateway) -> None:
    gateway.write("[ai.store]\n")
    gateway.start()
    pygate(gateway, "keys", "create", "before", "--limit", "usd:day:1")
    first = gateway.pid
    upgraded = subprocess.run(
        [sys.executable, "-m", "pygate.cli.main", "upgrade", "--run-dir", str(gateway.run_dir)], timeout=100
    )
    assert upgraded.returncode == 0 and gateway.pid != first
    assert pygate(gateway, "keys", "create", "after")["in_force"] is True
    wait_for(lambda: len(versions(gateway)) == 1, "one version in all workers")
    assert [key["name"] for key in pygate(gateway, "keys", "list")["keys"]] == ["before", "after"]


def test_counters_begin_with_what_was_used(gateway: Gateway) -> None:
    """Money is counted in millionths of a dollar in shared memory."""
    store = Store.open(f"sqlite:{gateway.directory}/audit/keys.db")
    limits = (Limit("nano_usd", "month", 10**10), Limit("total_tokens", "week", 10**6))
    key = store.create(Terms("ci", limits=limits), secret.make(), 1)
    calls = [call(time.time(), key=key.id, nano_usd=1_250_000_000)] * 2
    Ledger(store.database).add("x", {}, {"w": (1, 1, 1)}, add_up(calls))
    gateway.write("[ai.store]\n")
    gateway.start()
    shared = _core.Shared.open(gateway.run_dir / "shared")
    assert shared.budget_used(f"key:{key.id}", "nano_usd", "month") == 2_500_000
    assert shared.budget_used(f"key:{key.id}", "total_tokens", "week") == 240
    # A limit that comes later begins with what its window has seen.
    pygate(gateway, "keys", "set", "ci", "--limit", "requests:day:9")
    assert shared.budget_used(f"key:{key.id}", "requests", "day") == 2
    store.close()

"""A change reaches every worker in under a second: real processes, from the command line to the workers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pygate.admin.client import ask
from pygate.ai import secret
from pygate.ai.limits import Limit
from pygate.ai.store import Store, Terms
from pygate.ai.usage import Ledger, add_up
from pygate.config.address import Address
from tests.ai.calls import call
from tests.control.running import BASE, wait_for

ROOT = Path(__file__).parents[2]
WORKERS = 3


class Place:
    """One gateway in a directory of its own, its command line, and what its workers took."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run_dir = directory / "run"
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.write()

    def write(self, extra: str = "") -> None:
        place = {"address": "127.0.0.1:0", "admin": self.directory / "admin.sock", "audit": self.directory / "audit"}
        (self.directory / "pygate.toml").write_text(BASE.format(**place, count=WORKERS, upstream=1) + extra)

    @property
    def url(self) -> str:
        return f"sqlite:{self.directory}/audit/keys.db"

    def start(self) -> None:
        arguments = [sys.executable, "-m", "tests.ai.control", "pygate.toml", "run"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(arguments, cwd=self.directory, stderr=log, env=self._environment())
        wait_for(lambda: (self.run_dir / "pygate.pid").exists() or self._ended(), "a start")

    def _ended(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(20) == 0, self.log
            self.process = None

    def close(self) -> None:
        pids = {int(p.stem.removeprefix("worker-")) for p in self.run_dir.glob("worker-*.sock")}
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def pygate(self, *arguments: str, code: int = 0) -> Any:
        """The JSON a command prints."""
        command = [sys.executable, "-m", "pygate.cli.main", *arguments, "--json"]
        done = subprocess.run(command, cwd=self.directory, env=self._environment(), capture_output=True, timeout=60)
        assert done.returncode == code, done.stdout.decode() + done.stderr.decode()
        return json.loads(done.stdout)

    def taken(self) -> dict[int, list[tuple[float, str, dict[str, Any]]]]:
        """What each live worker took: when, in which state, the snapshot."""
        found = {}
        for path in self.run_dir.glob("worker-*.sock"):
            pid = int(path.stem.removeprefix("worker-"))
            lines = (self.run_dir / f"taken-{pid}").read_text().splitlines()
            parts = (line.split(" ", 2) for line in lines)
            found[pid] = [(float(when), state, json.loads(text)) for when, state, text in parts]
        return found

    def all_have(self, keys: int) -> bool:
        """Every worker knows this many keys."""
        return all(len(taken[-1][2]["keys"]) == keys for taken in self.taken().values())

    def restored(self) -> list[list[list[Any]]]:
        path = self.run_dir / "restored"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def place() -> Iterator[Place]:
    directory = Path(tempfile.mkdtemp(prefix="pygate-"))
    place = Place(directory)
    try:
        yield place
    finally:
        place.close()
        shutil.rmtree(directory, ignore_errors=True)


def names(snapshot: dict[str, Any]) -> list[str]:
    return [key["name"] for key in snapshot["keys"]]


def test_from_the_command_line_to_every_worker(place: Place) -> None:
    made = place.pygate("keys", "create", "before", "--limit", "usd:month:1.00")
    assert "in_force" not in made, "nobody runs yet"
    place.start()
    first = place.taken()
    assert len(first) == WORKERS
    for taken in first.values():
        ((_, state, snapshot),) = taken
        assert (state, names(snapshot)) == ("starting", ["before"]), "it has the keys before it listens"
    assert place.restored() == [[[f"key:{made['id']}", "nano_usd", "month", 0]]]

    created = place.pygate("keys", "create", "ci", "--model", "fast", "--limit", "requests:minute:9")
    assert created["in_force"] is True
    for taken in place.taken().values():
        _, state, snapshot = taken[-1]
        assert (state, names(snapshot)) == ("listening", ["before", "ci"]), "every worker had it before the answer"
    # Its counter is new, the other one is left alone.
    assert place.restored()[1:] == [[[f"key:{created['id']}", "requests", "minute", 0]]]
    rotated = place.pygate("keys", "rotate", created["key"], "--overlap", "1h")
    assert place.pygate("keys", "revoke", "before")["in_force"] is True
    for taken in place.taken().values():
        assert names(taken[-1][2]) == ["ci", "ci"]

    # A worker that dies is replaced by one that knows.
    old = set(first)
    os.kill(min(old), signal.SIGKILL)
    wait_for(lambda: len(set(place.taken()) - old) == 1, "another worker")
    (new,) = set(place.taken()) - old
    assert [names(snapshot) for _, _, snapshot in place.taken()[new]] == [["ci", "ci"]]

    place.stop()
    kept = (place.run_dir / "keys.json").read_text() + place.log + (place.directory / "audit/usage.id").read_text()
    for plain in (made["key"], created["key"], rotated["key"]):
        assert plain[secret.PREFIX_LENGTH :] not in kept
    assert (place.run_dir / "keys.json").stat().st_mode & 0o777 == 0o600


def test_a_change_that_somebody_else_makes_in_the_store(place: Place) -> None:
    Store.open(place.url).close()
    place.start()
    store = Store.open(place.url)
    for count in range(5):
        store.create(Terms(f"k{count}"), secret.make(), 1)
        since = time.monotonic()
        wait_for(partial(place.all_have, count + 1), "the change", 5)
        late = [when - since for taken in place.taken().values() for when, _, s in taken if len(s["keys"]) == count + 1]
        assert len(late) == WORKERS and max(late) < 1.0
    store.close()


def test_keys_do_not_wait_for_a_revision_that_is_compiled(place: Place) -> None:
    place.environment["PYGATE_TEST_COMPILE"] = "3"
    Store.open(place.url).close()
    place.start()
    reloading = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from pygate.admin.client import ask; from pygate.config.address import Address;"
            f"ask(Address.parse('unix:{place.directory}/admin.sock'), 'POST', '/-/reload')",
        ],
        env=place._environment(),
    )
    time.sleep(1.0)
    begun = time.monotonic()
    status, made = ask(Address.parse(f"unix:{place.directory}/admin.sock"), "POST", "/ai/keys", {"name": "ci"})
    assert (status, made["in_force"]) == (201, True) and time.monotonic() - begun < 1.0
    assert reloading.poll() is None, "the revision is still under way"
    assert reloading.wait(30) == 0


def test_a_worker_that_refuses_keys_is_told_of(place: Place) -> None:
    place.environment["PYGATE_TEST_REFUSE"] = "1"
    Store.open(place.url).close()
    place.start()
    assert place.pygate("keys", "create", "ci")["in_force"] is False
    assert place.log.count("refuses keys: ValueError: no room for keys") == WORKERS
    assert len(place.taken()) == WORKERS, "they serve on"


def test_a_store_nobody_asked_for_is_not_made(place: Place) -> None:
    place.start()
    time.sleep(1.0)
    assert not (place.directory / "audit/keys.db").exists() and not (place.run_dir / "keys.json").exists()
    assert place.pygate("keys", "list") == {"keys": []}
    assert place.pygate("keys", "create", "ci")["in_force"] is True
    for taken in place.taken().values():
        assert names(taken[-1][2]) == ["ci"]
    # Workers that start from now on read it, too.
    os.kill(min(place.taken()), signal.SIGKILL)
    wait_for(lambda: len(place.taken()) == WORKERS and all(place.taken().values()), "another worker")
    place.stop()


def test_the_command_line_asks_no_other_gateway(place: Place) -> None:
    place.start()
    other = place.directory / "other"
    other.mkdir()
    text = (place.directory / "pygate.toml").read_text()
    (other / "pygate.toml").write_text(text.replace(f'dir = "{place.directory}/audit"', f'dir = "{other}/audit"'))
    told = place.pygate("keys", "create", "ci", "-c", str(other / "pygate.toml"), code=2)
    assert told["error"]["message"] == f"this gateway keeps its keys in {place.url}"
    assert place.pygate("keys", "list", "--admin", f"unix:{place.directory}/admin.sock") == {"keys": []}


def test_a_limit_of_a_team_is_restored_from_what_was_used(place: Place) -> None:
    """Also after a start without shared memory."""
    store = Store.open(place.url)
    store.create_group("team", "platform", (Limit("nano_usd", "month", 10**9),), 1)
    key = store.create(Terms("ci", "platform"), secret.make(), 1)
    Ledger(store.database).add("x", {}, {"w": (1, 1, 1)}, add_up([call(time.time(), key=key.id)]))
    store.close()
    for start in range(2):
        place.start()
        assert place.restored() == [[["team:platform", "nano_usd", "month", 1_500]]] * (start + 1)
        place.stop()

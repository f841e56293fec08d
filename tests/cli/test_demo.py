"""`pygate demo` as its user runs it: it shows what it promises, ends by itself, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "pygate.cli.main", "demo"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the demo makes its directory; the paths of its sockets have to be short."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(directory), "PYTHONPATH": str(ROOT)}


@pytest.mark.timeout(90)
def test_it_shows_everything(place: Path) -> None:
    done = subprocess.run(COMMAND, env=environment(place), cwd=place, capture_output=True, text=True, timeout=80)
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout
    assert "200 I am a simulated openai and was asked: What is a gateway?" in told
    assert "200 I am a simulated anthropic and was asked: What is failover?" in told
    assert "I am a simulated gemini and was asked: How fast is it?\n   12 pieces, the first after " in told
    assert re.search(r"429 .*team:platform per day is used up: 0\.00\d{4} USD left", told)
    lines = [line.split() for line in told.splitlines()]
    assert ["smart", "openai", "1", "0", "0", "4", "0", "400", "0", "0.000801", "0"] in lines
    # Who was asked in vain counts nothing; who answered instead does.
    assert ["smart", "anthropic", "1", "0", "0", "3", "0", "400", "0", "0.004006", "0"] in lines
    total = next(line for line in lines if line[:1] == ["all"])
    assert total[1:4] == ["6", "1", "0"] and float(total[8]) < 0.02
    assert list(place.iterdir()) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped(place: Path, number: int) -> None:
    process = subprocess.Popen(COMMAND, env=environment(place), cwd=place, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "gateway    http" not in process.stdout.readline():
        assert process.poll() is None
    (directory,) = place.iterdir()
    pid = int((directory / "run" / "pygate.pid").read_text())
    process.send_signal(number)
    process.stdout.read()
    assert process.wait(30) in (130, 143)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists() and list(place.iterdir()) == []


def test_its_help() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "three simulated providers" in " ".join(done.stdout.split())

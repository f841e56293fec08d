"""The table of clients and features, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.scene import free_address
from tests.providers.running import ROOT, Simulator


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.ai.sdks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380)


@pytest.mark.timeout(300)
def test_every_client_works_with_its_own_provider(tmp_path: Path) -> None:
    done = run("--direct", "--json", str(tmp_path / "told.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("sdks=ok clients=10 features=23 passed=")
    assert " failed=0 " in done.stdout.splitlines()[-1]
    assert json.loads((tmp_path / "told.json").read_text())["summary"]["failed"] == 0


@pytest.mark.timeout(400)
def test_every_client_works_with_every_provider_behind_a_gateway(tmp_path: Path) -> None:
    done = run("--json", str(tmp_path / "told.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("sdks=ok clients=10 features=23 passed=")
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["summary"]["failed"] == 0 and told["summary"]["passed"] > 480


@pytest.mark.timeout(120)
def test_what_does_not_work_fails() -> None:
    with Simulator() as simulator:
        nobody = f"http://{free_address()}"
        told = ["--gateway", nobody, "--simulator", simulator.url, "--key", "k", "--only", "openai", "--models", "fast"]
        done = run(*told)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("sdks=failed clients=1 features=22 passed=0 failed=22 "), done.stdout


def test_its_arguments() -> None:
    assert run("--direct", "--only", "nobody").returncode == 2
    assert run("--gateway", "http://127.0.0.1:1").returncode == 2
    assert "--json FILE" in run("--help").stdout

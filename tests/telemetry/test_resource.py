"""Who the signals say they come from."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from pygate._core import __version__
from pygate.telemetry import resource
from pygate.telemetry.settings import Settings


def build(config: dict[str, Any] | None = None, directory: Path | None = None) -> dict[str, Any]:
    settings = Settings.of({"telemetry": config or {}})
    return dict(resource.build(settings, "0123456789ab", directory).attributes)


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()


def test_what_is_always_there(tmp_path: Path) -> None:
    attributes = build({"environment": "staging"}, tmp_path)
    assert attributes["service.name"] == "pygate"
    assert attributes["service.version"] == __version__
    assert attributes["deployment.environment.name"] == "staging"
    assert attributes["pygate.revision"] == "0123456789ab"
    assert attributes["telemetry.sdk.language"] == "python"
    assert attributes["service.instance.id"] == build()["service.instance.id"]


def test_the_user_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=from-env,team=a,host.name=box")
    assert build()["service.name"] == "from-env"
    attributes = build({"resource": {"service.name": "edge", "team": "b"}})
    assert (attributes["service.name"], attributes["team"], attributes["host.name"]) == ("edge", "b", "box")


def test_the_commit_of_the_checkout_the_configuration_lies_in(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    deep = tmp_path / "deploy/prod"
    deep.mkdir(parents=True)
    assert resource.vcs_revision(deep) == head
    git(tmp_path, "pack-refs", "--all")
    assert resource.vcs_revision(deep) == head
    git(tmp_path, "checkout", "-q", "--detach")
    assert build({}, deep)["vcs.ref.head.revision"] == head
    git(tmp_path, "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    git(tmp_path / "tree", "commit", "-q", "--allow-empty", "-m", "two")
    assert resource.vcs_revision(tmp_path / "tree") == git(tmp_path / "tree", "rev-parse", "HEAD") != head


def test_the_environment_names_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_SHA", "a" * 40)
    assert resource.vcs_revision(tmp_path) == "a" * 40
    monkeypatch.setenv("PYGATE_VCS_REVISION", "v1.2")
    assert resource.vcs_revision(None) == "v1.2"


def test_a_broken_checkout_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert resource.vcs_revision(tmp_path) is None
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/none\n")
    assert resource.vcs_revision(tmp_path) is None
    (tmp_path / ".git/HEAD").write_text("garbage\n")
    assert resource.vcs_revision(tmp_path) is None

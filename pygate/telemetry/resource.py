"""The resource: who sends these signals. The same for metrics, traces and logs."""

from __future__ import annotations

import os
import platform
import re
import uuid
from pathlib import Path

from opentelemetry.sdk.resources import Resource
from opentelemetry.semconv.schemas import Schemas

from pygate import _core
from pygate.telemetry.settings import Settings

SCHEMA_URL = Schemas.V1_44_0.value

#: Where build and deployment systems leave the commit they deploy, most specific first.
REVISION_VARIABLES = ("PYGATE_VCS_REVISION", "GIT_COMMIT", "GITHUB_SHA", "CI_COMMIT_SHA", "SOURCE_COMMIT")

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
#: One per process: two gateways on a host must not overwrite each other's series.
_INSTANCE = str(uuid.uuid4())


def build(settings: Settings, revision: str, config_dir: Path | None) -> Resource:
    """The resource for a revision. The user's attributes win over all others, `OTEL_RESOURCE_ATTRIBUTES` over ours."""
    attributes: dict[str, str | int] = {
        "service.name": "pygate",
        "service.version": _core.__version__,
        "service.instance.id": _INSTANCE,
        "host.name": platform.node(),
        "process.pid": os.getpid(),
        "process.runtime.name": platform.python_implementation().lower(),
        "process.runtime.version": platform.python_version(),
    }
    if settings.environment:
        attributes["deployment.environment.name"] = settings.environment
    if revision:
        attributes["pygate.revision"] = revision
    if commit := vcs_revision(config_dir):
        attributes["vcs.ref.head.revision"] = commit
    # `Resource.create` lets its argument win over the environment; what we only guess must not.
    given = {part.partition("=")[0].strip() for part in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")}
    if os.environ.get("OTEL_SERVICE_NAME"):
        given.add("service.name")
    ours = {name: value for name, value in attributes.items() if name not in given}
    return Resource.create({**ours, **dict(settings.resource)}, SCHEMA_URL)


def vcs_revision(directory: Path | None) -> str | None:
    """The commit the configuration comes from: from the environment, else from the git checkout it lies in."""
    for name in REVISION_VARIABLES:
        if value := os.environ.get(name):
            return value
    for parent in [directory.resolve(), *directory.resolve().parents] if directory else []:
        if (parent / ".git").exists():
            return _head(parent / ".git")
    return None


def _head(git: Path) -> str | None:
    """The commit `HEAD` names, read from the files so that no git is needed. None for anything unusual."""
    try:
        if git.is_file():  # a worktree or submodule: "gitdir: PATH"
            git = git.parent / git.read_text().strip().removeprefix("gitdir: ")
        head = (git / "HEAD").read_text().strip()
        if head.startswith("ref: "):
            reference = head[5:]
            common = git / "commondir"
            roots = [git, git / common.read_text().strip()] if common.exists() else [git]
            head = next((text for root in roots if (text := _reference(root, reference))), "")
    except OSError:
        return None
    return head if _COMMIT.fullmatch(head) else None


def _reference(git: Path, reference: str) -> str:
    loose = git / reference
    if loose.is_file():
        return loose.read_text().strip()
    packed = git / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {reference}")), "")

"""Certificates of the gateway: files read, checked, watched and shipped to workers; ACME, OCSP and ticket keys.

    settings   what belongs together in `certificates` and `acme`
    gather     configuration → files → material and problems        files, pem: how one file is read
    staging    material → a file that workers read
    duty       keeps material in force current: files, tickets
    stapling   fetches OCSP responses                                ocsp: what may be stapled
    renewal    obtains and renews by ACME                            authority, challenges, schedule, storage
    inventory  what `pygate cert list` shows

Whoever puts a configuration in force calls `prepare` first; `check` is the same without effects.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pygate import _core
from pygate.config.problem import ConfigError, Problem
from pygate.control.certificates import settings

if TYPE_CHECKING:
    from pygate.config import Loaded
    from pygate.control.certificates.gather import Gathered


def check(loaded: Loaded) -> list[Problem]:
    """What is wrong with the certificates a configuration names; blocks on files. `loaded` has no problems itself."""
    return examine(loaded)[0]


def examine(loaded: Loaded) -> tuple[list[Problem], list[Problem]]:
    """Problems, and warnings that stop nobody; each with its place."""
    if not settings.concerned(loaded.value):
        return [], []
    from pygate.control.certificates.gather import gather

    found = gather(loaded.value, loaded.base)
    if not found.problems:
        found.problems += compiled(loaded.json, found.material())
    return _located(loaded, found)


def prepare(loaded: Loaded, run_dir: Path) -> Path | None:
    """Reads and stages the certificates of a configuration; returns what workers read, if it is anything. Blocks.

    Raises `ConfigError` with what is wrong, `OSError` when the run directory cannot be written.
    """
    if not settings.concerned(loaded.value):
        return None
    from pygate.control.certificates.gather import gather
    from pygate.control.certificates.staging import stage

    found = gather(loaded.value, loaded.base, run_dir)
    material = found.material()
    if not found.problems:
        found.problems += compiled(loaded.json, material)
    problems, _ = _located(loaded, found)
    if problems:
        raise ConfigError(problems)
    return stage(run_dir, material)


def compiled(config: bytes, material: bytes) -> list[Problem]:
    """What the compiler of the data plane has to say of TLS; without places."""
    try:
        _core.TlsStore(config, material)
    except ValueError as e:
        return [Problem(p["path"], p["message"], p["expected"], nearest=p["nearest"]) for p in e.args[0]]
    return []


def _located(loaded: Loaded, found: Gathered) -> tuple[list[Problem], list[Problem]]:
    for problem in [*found.problems, *found.warnings]:
        loaded.locate(problem)
    return found.problems, found.warnings


__all__ = ["check", "compiled", "examine", "prepare"]

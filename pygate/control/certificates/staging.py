"""Puts material where workers read it: one file in the run directory, named by what is in it.

Rules: mode 0600 in a directory of mode 0700, written whole; the same material is the same path. Only the newest few are
kept, since each holds private keys: the one in force, and those that workers may still be about to read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from pygate.control.certificates import files
from pygate.control.certificates.settings import DIRECTORY

KEEP = 8


def stage(run_dir: Path, material: bytes, in_force: Path | None = None) -> Path:
    """Writes material; returns its path. `in_force` is kept whatever its age. Blocks. Raises `OSError`."""
    directory = files.private(run_dir / DIRECTORY)
    path = directory / f"material-{hashlib.sha256(material).hexdigest()[:32]}.json"
    if path.exists():
        os.utime(path)
    else:
        files.write(path, material, durable=False)
    kept = sorted(directory.glob("material-*.json"), key=_age, reverse=True)
    for old in kept[KEEP:]:
        if old not in (path, in_force):
            old.unlink(missing_ok=True)
    return path


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return 0

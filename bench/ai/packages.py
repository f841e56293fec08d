"""LiteLLM's and Portkey's gateways, installed when they are first needed.

They live in the user's cache directory, or that in `PYGATE_BENCH_CACHE`, one directory per version, and stay there.
Versions are fixed: numbers of two runs can be compared. LiteLLM's is the newest whose extra `proxy` could be installed
whole when this was written.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.proxy.processes import StartError

LITELLM = "1.106.12"
PORTKEY = "1.15.2"
HONO = "1.13.8"
"""Portkey's HTTP server, held back: with the newest that npm would choose, its streams all end in a TypeError (500)."""


def litellm() -> Path:
    """The command `litellm`. Raises `StartError` when it cannot be installed."""
    place = _place(f"litellm-{LITELLM}-py{sys.version_info.major}.{sys.version_info.minor}")
    if not (place / "complete").exists():
        _fresh(place)
        _run([sys.executable, "-m", "venv", str(place)], place)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, f"litellm[proxy]=={LITELLM}"], place)
        (place / "complete").touch()
    return place / "bin" / "litellm"


def portkey() -> Path:
    """The script that Node is started with. Raises `StartError` when it cannot be installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise StartError("Portkey's gateway needs Node: apt-get install nodejs npm")
    place = _place(f"portkey-{PORTKEY}-hono-{HONO}")
    if not (place / "complete").exists():
        _fresh(place)
        package = {"private": True, "overrides": {"@hono/node-server": HONO}}
        (place / "package.json").write_text(json.dumps(package))
        npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        _run([*npm, f"@portkey-ai/gateway@{PORTKEY}"], place)
        (place / "complete").touch()
    return place / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"


def _place(name: str) -> Path:
    cache = os.environ.get("PYGATE_BENCH_CACHE") or Path.home() / ".cache" / "pygate-bench"
    return Path(cache) / name


def _fresh(place: Path) -> None:
    """An empty directory: what an installation that was ended left is not used."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def _run(command: list[str], place: Path) -> None:
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        raise StartError(f"{place.name} could not be installed within 15 minutes") from None
    if done.returncode != 0:
        raise StartError(f"{place.name} could not be installed: {(done.stdout + done.stderr).strip()[-1000:]}")

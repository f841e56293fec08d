"""The Vercel AI SDK: `vercel/client.mjs`, a process per model that prints a line of JSON per feature.

Its packages are installed once for a `package.json`, into the user's cache directory or that in `PYGATE_TEST_CACHE`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.ai.feature import LABELS, Found, Place

HERE = Path(__file__).parent / "vercel"
CLIENTS = {
    "vercel openai": ("openai", "fast"),
    "vercel responses": ("responses", "fast"),
    "vercel anthropic": ("anthropic", "claude"),
}


def installed() -> Path:
    """The directory with the script and its packages."""
    cache = os.environ.get("PYGATE_TEST_CACHE") or Path.home() / ".cache" / "pygate-tests"
    sources = [HERE / name for name in ("package.json", "client.mjs")]
    mark = hashlib.sha256(sources[0].read_bytes()).hexdigest()[:12]
    place = Path(cache) / f"vercel-{mark}"
    if not (place / "node_modules" / "ai").is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=place.parent))
        shutil.copy(sources[0], made)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(command, cwd=made, capture_output=True, text=True, timeout=300)
        if done.returncode:
            shutil.rmtree(made)
            raise RuntimeError(f"npm install failed: {done.stderr[-400:]}")
        try:
            made.rename(place)
        except OSError:  # another process was first
            shutil.rmtree(made)
    shutil.copy(sources[1], place)
    return place


def run(client: str, place: Place, labels: list[str]) -> Iterator[Found]:
    dialect, own = CLIENTS[client]
    where = installed()
    wire = "anthropic" if dialect == "anthropic" else "openai"
    for label in labels:
        given = {
            "dialect": dialect,
            "url": f"{place.anthropic}/v1" if wire == "anthropic" else place.openai,
            "key": place.key(wire),
            "model": place.models[label],
            "embed": place.models["embed"],
            "own": label == own,
            "simulator": place.simulator.url,
            "provider": LABELS[label],
            "settle": place.settle,
        }
        command = ["node", str(where / "client.mjs"), json.dumps(given)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                told = json.loads(line)
                yield Found(client, label, told["feature"], told["ok"], told["detail"][:500], told["seconds"])
        if done.returncode:
            yield Found(client, label, "ends", False, " ".join(done.stderr.split())[-400:])

"""What holds of the configuration reader for any bytes: reading them ends in a `Loaded`.

`load` raises nothing; every problem can be shown, as text and as JSON; a configuration without problems
has a revision and a JSON form, and reading the same bytes again gives the same ones.
"""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile
from pathlib import Path

from pygate.config import load
from pygate.config import source as reader
from pygate.config.problem import Place, Style, render
from pygate.config.source import Source

#: Where generated files are read from; patterns and names that lead out of it are not followed.
ROOT = Path(tempfile.gettempdir()) / f"pygate-fuzz-config-{os.getpid()}"


def check(data: bytes) -> None:
    """Reads `data` as a configuration file and holds the promises."""
    path = ROOT / "pygate.toml"
    path.write_bytes(data)
    loaded = load(path)
    for problem in loaded.problems:
        text = render(problem, loaded.texts, Style(colour=True))
        assert problem.message and problem.message in text
        json.dumps(problem.as_dict())
    if loaded.problems:
        return
    assert re.fullmatch("[0-9a-f]{12}", loaded.revision)
    json.loads(loaded.json)
    again = load(path)
    assert (again.revision, again.json, again.problems) == (loaded.revision, loaded.json, [])


def confine() -> None:
    """Keeps `include` inside the directory made for it: a generated pattern might name the whole disk."""
    ROOT.mkdir(mode=0o700, exist_ok=True)
    (ROOT / "more.toml").write_text("[workers]\ncount = 2\n")
    read, find = reader._read_any, glob.glob

    def read_inside(source: Source, path: Path, trail: list[Path], named_at: Place | None) -> None:
        # Abnormal names are left for the reader to refuse.
        with_links = os.path.normpath(str(path)) if "\0" not in str(path) else str(ROOT)
        if with_links == str(ROOT) or with_links.startswith(f"{ROOT}/"):
            read(source, path, trail, named_at)

    def find_inside(pattern: str, *, root_dir: Path, recursive: bool) -> list[str]:
        if pattern.startswith("/") or ".." in pattern:
            return []
        return find(pattern, root_dir=root_dir, recursive=recursive)

    reader._read_any = read_inside
    reader.glob.glob = find_inside  # type: ignore[attr-defined]

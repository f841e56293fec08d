"""Reads configuration files and merges them into one value that remembers where everything stands.

Rules:

1. A directory stands for its `*.toml` files in name order; `include = ["..."]` names further files, globs or
   directories relative to the file it stands in. A file is read once, a cycle is an error.
2. Files are merged, never overridden: lists of tables (`routes`) are joined in reading order, tables are
   merged, and a name or key given twice is an error that shows both places.
3. What cannot be read is a problem like any other; the rest is still read, so that all problems show at once.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pygate import _core
from pygate.config.problem import Place, Problem

MAX_FILE = 16 << 20
MAX_FILES = 1000


#: Inode, size and time of change by path; zeros for what is not there.
Stamps = dict[Path, tuple[int, int, int]]


def stamps(files: list[Path], directories: list[Path]) -> Stamps:
    """The present state of these files and of all `*.toml` in the directories."""
    found: Stamps = {}
    for path in [*files, *(p for d in directories if _is_directory(d) for p in sorted(d.glob("*.toml")))]:
        try:
            state = path.stat()
            found[path] = (state.st_ino, state.st_size, state.st_mtime_ns)
        except OSError:
            found[path] = (0, 0, 0)
    return found


@dataclass
class Source:
    """The merged value with the places of its keys and values, by dotted path."""

    value: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)
    values: dict[str, Place] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)
    #: Every file read, in order, and the directories in which a new file would count.
    files: list[Path] = field(default_factory=list)
    directories: list[Path] = field(default_factory=list)
    #: State of every file and of every directory's members just before it was read.
    stamps: Stamps = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def locate(self, problem: Problem) -> Problem:
        """Fills in the place of a problem from its path, or from the nearest thing around it that has one."""
        if problem.place is None:
            path, own = problem.path, True
            while path:
                table = self.keys if problem.at_key or not own else self.values
                if place := table.get(path):
                    problem.place = place
                    break
                path, own = _parent(path), False
        return problem


def read(path: Path) -> Source:
    """Reads a file or directory with all it includes."""
    source = Source()
    _read_any(source, path, [], None)
    return source


def _read_any(source: Source, path: Path, trail: list[Path], named_at: Place | None) -> None:
    if (reason := _unusable(path)) is not None:
        source.problems.append(Problem("", f"`{path}` cannot be read: {reason}", place=named_at))
    elif path.is_dir():
        source.directories.append(path)
        source.stamps |= stamps([], [path])
        members = sorted(p for p in path.glob("*.toml") if p.is_file())
        if not members:
            source.problems.append(
                Problem("", f"no `*.toml` file in `{path}`", help="`pygate init` writes a first one", place=named_at)
            )
        for member in members:
            _read_file(source, member, trail, named_at)
    else:
        _read_file(source, path, trail, named_at)


def _unusable(path: Path) -> str | None:
    """Why no file can have this name – a NUL in it, too long – or None."""
    try:
        path.is_dir()
        path.resolve()
    except OSError as e:
        return e.strerror
    except ValueError as e:
        return str(e)
    return None


def _is_directory(path: Path) -> bool:
    return _unusable(path) is None and path.is_dir()


def _read_file(source: Source, path: Path, trail: list[Path], named_at: Place | None) -> None:
    identity = path.resolve()
    if identity in trail:
        chain = " → ".join(p.name for p in [*trail[trail.index(identity) :], identity])
        source.problems.append(Problem("include", f"files include each other: {chain}", place=named_at))
        return
    if any(identity == known.resolve() for known in source.files):
        return
    if len(source.files) >= MAX_FILES:
        source.problems.append(Problem("include", f"more than {MAX_FILES} files", place=named_at))
        return
    source.stamps |= stamps([path], [])
    try:
        if path.stat().st_size > MAX_FILE:
            source.problems.append(Problem("", f"`{path}` is larger than {MAX_FILE >> 20} MiB", place=named_at))
            return
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        problem = Problem("", f"`{path}` does not exist", place=named_at)
        problem.help = None if named_at else "`pygate init` writes a first configuration"
        source.problems.append(problem)
        return
    except UnicodeDecodeError as e:
        source.files.append(path)
        source.problems.append(Problem("", f"`{path}` is not UTF-8 (byte {e.start})", expected="UTF-8 text"))
        return
    except OSError as e:
        source.problems.append(Problem("", f"`{path}` cannot be read: {e.strerror}", place=named_at))
        return
    source.files.append(path)
    source.texts[path] = text
    try:
        value, places = _core.read_toml(text)
    except ValueError as e:
        message, line, column, length = e.args
        source.problems.append(Problem("", f"not TOML: {message}", place=Place(path, line, column, length)))
        return
    part = Source(value)
    for key, (at_key, at_value) in places.items():
        part.keys[key] = Place(path, *at_key)
        part.values[key] = Place(path, *at_value)
    includes = _take_includes(source, part)
    _merge(source, part)
    for index, pattern in enumerate(includes):
        place = part.values.get(f"include[{index}]")
        _include(source, path.parent, pattern, [*trail, identity], place)


def _take_includes(source: Source, part: Source) -> list[str]:
    includes = part.value.pop("include", [])
    if isinstance(includes, list) and all(isinstance(item, str) for item in includes):
        return includes
    problem = Problem("include", "`include` must be a list of strings", expected='a list such as ["routes/*.toml"]')
    source.problems.append(part.locate(problem))
    return []


def _include(source: Source, base: Path, pattern: str, trail: list[Path], named_at: Place | None) -> None:
    if not glob.has_magic(pattern):
        _read_any(source, base / pattern, trail, named_at)
        return
    if "\0" in pattern:
        source.problems.append(Problem("", f"`{pattern}` cannot be read: embedded null byte", place=named_at))
        return
    found = sorted(base / name for name in glob.glob(pattern, root_dir=base, recursive=True))
    around = {p.parent for p in found} | {(base / pattern).parent}
    source.directories += sorted(around - set(source.directories))
    source.stamps |= stamps([], sorted(around))
    for path in found:
        if path.resolve() != trail[-1]:
            _read_any(source, path, trail, named_at)


def _merge(into: Source, part: Source) -> None:
    """Merges one file's value; paths of joined list items are renumbered."""
    _merge_table(into, part, into.value, part.value, "")


def _merge_table(into: Source, part: Source, old: dict[str, Any], new: dict[str, Any], path: str) -> None:
    for name, value in new.items():
        inner = f"{path}.{name}" if path else name
        known = old.get(name)
        if name not in old:
            old[name] = value
            _adopt(into, part, inner, inner)
        elif inner == "routes" and isinstance(known, list) and isinstance(value, list):
            start = len(known)
            known += value
            for index in range(len(value)):
                _adopt(into, part, f"routes[{index}]", f"routes[{start + index}]")
        elif path.count(".") < 1 and isinstance(known, dict) and isinstance(value, dict) and not _is_name(path):
            _merge_table(into, part, known, value, inner)
        else:
            into.problems.append(
                Problem(
                    inner,
                    f"`{inner}` is defined twice",
                    help="rename or delete one of them: files are merged, they do not override each other",
                    place=part.keys.get(inner),
                    other=into.keys.get(inner),
                )
            )


#: Tables of named things: what stands in them belongs to one file each.
_NAMED = ("entrypoints", "services", "policies", "plugins", "certificates", "acme")


def _is_name(path: str) -> bool:
    """`path` is a table whose keys are names given by the user."""
    return path in _NAMED


def _adopt(into: Source, part: Source, old: str, new: str) -> None:
    for source, target in ((part.keys, into.keys), (part.values, into.values)):
        for path, place in source.items():
            if path == old or path.startswith((old + ".", old + "[")):
                target[new + path[len(old) :]] = place


def _parent(path: str) -> str:
    return path[: max(path.rfind("."), path.rfind("["), 0)]

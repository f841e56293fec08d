"""One thing wrong with a configuration, and how it is shown.

A problem names a dotted path (`routes[3].match.path`); where that stands in the user's files is added by
whoever knows the files. The text form follows what compilers do: message, place, the line itself, a caret,
and the next step. Values of secrets never get here: secrets are references, and only those are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pygate.config.secrets import is_secret


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of one line of a file; line and column count from 1, column and length in characters."""

    file: Path
    line: int
    column: int
    length: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(slots=True)
class Problem:
    """What is wrong (`message`), where, what would have been right, and what to do next."""

    path: str
    message: str
    expected: str | None = None
    got: str | None = None
    nearest: str | None = None
    help: str | None = None
    place: Place | None = None
    #: The first definition, where two collide.
    other: Place | None = None
    #: The caret belongs under the key rather than under its value.
    at_key: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The `--json` form: every key always there, `null` where unknown."""
        return {
            "path": self.path,
            "message": self.message,
            "expected": self.expected,
            "got": self.got,
            "nearest": self.nearest,
            "help": self.help,
            "file": str(self.place.file) if self.place else None,
            "line": self.place.line if self.place else None,
            "column": self.place.column if self.place else None,
            "other": str(self.other) if self.other else None,
        }


class ConfigError(Exception):
    """A configuration that must not start or replace anything; carries all its problems."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.place or first.path}: {first.message}{more}")


class Style:
    """Terminal colours, or nothing."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def red(self, text: str) -> str:
        return self.paint("1;31", text)

    def blue(self, text: str) -> str:
        return self.paint("1;34", text)

    def bold(self, text: str) -> str:
        return self.paint("1", text)

    def green(self, text: str) -> str:
        return self.paint("32", text)

    def yellow(self, text: str) -> str:
        return self.paint("33", text)

    def dim(self, text: str) -> str:
        return self.paint("2", text)


def render(problem: Problem, texts: dict[Path, str], style: Style, warning: bool = False) -> str:
    """The problem as several lines of text, with the source line it is about."""
    out = [(style.yellow("warning") if warning else style.red("error")) + style.bold(f": {problem.message}")]
    width = max((len(str(p.line)) for p in (problem.place, problem.other) if p), default=1)
    bar = style.blue("|")
    if problem.place:
        # A line that may hold a secret is named, never quoted.
        hidden = is_secret(problem.path)
        out += _excerpt(problem.place, _label(problem), {} if hidden else texts, width, style)
        if hidden and problem.expected:
            out.append(" " * (width + 1) + bar + f" expected {problem.expected}")
    elif problem.path:
        out.append(" " * width + style.blue("--> ") + problem.path)
    if problem.other:
        out += _excerpt(problem.other, "first defined here", texts, width, style)
    notes = []
    if problem.path and problem.place:
        notes.append(("key", problem.path))
    if not problem.place and _label(problem):
        notes.append(("note", _label(problem)))
    if problem.nearest:
        notes.append(("help", f"did you mean `{problem.nearest}`?"))
    if problem.help:
        notes.append(("help", problem.help))
    if notes:
        out.append(" " * (width + 1) + bar)
    out += [" " * (width + 1) + style.blue("= ") + style.bold(kind) + f": {text}" for kind, text in notes]
    return "\n".join(out)


def _label(problem: Problem) -> str:
    parts = []
    if problem.expected:
        parts.append(f"expected {problem.expected}")
    if problem.got:
        parts.append(f"got {problem.got}")
    return ", ".join(parts)


def _excerpt(place: Place, label: str, texts: dict[Path, str], width: int, style: Style) -> list[str]:
    lines = texts.get(place.file, "").splitlines()
    pad = " " * (width + 1)
    out = [" " * width + style.blue("--> ") + str(place)]
    if not 1 <= place.line <= len(lines):
        return out
    source = lines[place.line - 1]
    # Tabs keep the caret aligned because the same tabs stand before it.
    before = "".join(c if c == "\t" else " " for c in source[: place.column - 1])
    caret = "^" * max(1, min(place.length, len(source) - place.column + 1 or 1))
    return [
        *out,
        pad + style.blue("|"),
        style.blue(f"{place.line:>{width}} |") + f" {source}",
        (pad + style.blue("|") + f" {before}" + style.red(f"{caret} {label}".rstrip())).rstrip(),
    ]

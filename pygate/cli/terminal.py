"""What the verbs share about their output: colour on a terminal only, and never against `NO_COLOR`."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

import orjson

from pygate.config.problem import Problem, Style, render


def style(stream: TextIO) -> Style:
    """Colours when `stream` is a terminal that can show them."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return Style(colour=not plain and stream.isatty())


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_warnings(warnings: list[Problem], texts: dict[Any, str], stream: TextIO) -> None:
    """What stops nobody, a blank line after each."""
    for warning in warnings:
        print(render(warning, texts, style(stream), warning=True), end="\n\n", file=stream)


def print_problems(problems: list[Problem], texts: dict[Any, str], stream: TextIO) -> None:
    """All problems, a blank line between two of them, and how many there are."""
    paint = style(stream)
    for problem in problems:
        print(render(problem, texts, paint), end="\n\n", file=stream)
    count = len(problems)
    print(paint.red("error") + paint.bold(f": {count} problem{'s' if count != 1 else ''} found"), file=stream)

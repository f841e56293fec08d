"""Checks a value against the configuration's JSON Schema and says what is wrong in a reader's words.

The schema is derived from the Rust types and is the only definition; this walker knows the shapes those
types produce (tables, lists, units of text, enumerations, untagged choices, one-kind tables) and nothing
about single keys. It collects every problem instead of stopping at the first.
"""

from __future__ import annotations

import difflib
import functools
import ipaddress
import json
import math
import re
from typing import Any

from pygate import _core
from pygate.config.problem import Problem
from pygate.config.secrets import is_secret

Schema = dict[str, Any]

INCLUDE: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "default": [],
    "description": "Further files, globs or directories, relative to this file; what they hold is merged.",
}


@functools.cache
def schema() -> Schema:
    """The JSON Schema of a configuration file."""
    derived: Schema = json.loads(_core.schema())
    derived["properties"] = {"include": INCLUDE, **derived["properties"]}
    return derived


def check(value: dict[str, Any], root: Schema | None = None) -> list[Problem]:
    """All violations in `value` of the configuration's schema, or another one; without places."""
    walker = _Walker(root or schema())
    walker.check(value, walker.root, "")
    return walker.problems


def nearest(name: str, known: list[str]) -> str | None:
    """The known name most like `name`, if any is like it at all."""
    if (swapped := name.replace("-", "_")) in known or (swapped := name.replace("_", "-")) in known:
        return swapped
    lowered = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


_KINDS = {
    dict: "a table",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "nothing",
}
_TYPES = {
    "object": "a table",
    "array": "a list",
    "string": "a string",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
}


class _Walker:
    def __init__(self, root: Schema) -> None:
        self.root = root
        self.problems: list[Problem] = []

    def resolve(self, node: Any) -> Schema:
        """Follows references and drops the `null` of optional values."""
        while isinstance(node, dict):
            if "$ref" in node:
                name = node["$ref"].rsplit("/", 1)[-1]
                node = {"title": name, **self.root["$defs"][name]}
            elif len(node.get("allOf", ())) == 1 and "properties" not in node:
                node = node["allOf"][0]
            elif "anyOf" in node and (rest := [n for n in node["anyOf"] if n.get("type") != "null"]) != node["anyOf"]:
                node = rest[0] if len(rest) == 1 else {**node, "anyOf": rest}
            else:
                return node
        return {}

    def check(self, value: Any, node: Any, path: str) -> None:
        node = self.resolve(node)
        if (names := _names(node)) is not None:
            self.check_name(value, names, path)
        elif choices := node.get("anyOf"):
            self.check_choice(value, choices, node, path)
        elif kinds := node.get("oneOf"):
            if all(self.resolve(k).get("required") and self.resolve(k).get("type") == "object" for k in kinds):
                self.check_kind(value, [self.resolve(k) for k in kinds], path)
            else:
                self.check_choice(value, kinds, node, path)
        elif "type" in node:
            self.check_type(value, node, path)

    def check_type(self, value: Any, node: Schema, path: str) -> None:
        if not _accepts(node, value):
            self.add(path, f"{_label(path)} must be {self.what(node)}", expected=self.what(node), got=_show(value))
        elif isinstance(value, dict):
            self.check_table(value, node, path)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.check(item, node.get("items", {}), f"{path}[{index}]")
        elif isinstance(value, str):
            self.check_text(value, node, path)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self.check_number(value, node, path)

    def check_table(self, value: dict[str, Any], node: Schema, path: str) -> None:
        properties: Schema = node.get("properties", {})
        extra = node.get("additionalProperties", True)
        for name, item in value.items():
            inner = f"{path}.{name}" if path else name
            if name in properties:
                self.check(item, properties[name], inner)
            elif extra is False:
                near = nearest(name, list(properties))
                self.add(
                    inner,
                    f"unknown key `{name}`" + (f" in {_label(path)}" if path else ""),
                    expected=None if near else _one_of(list(properties)),
                    nearest=near,
                    at_key=True,
                    help=self.about(near, properties.get(near)) if near else None,
                )
            elif isinstance(extra, dict):
                if not name:
                    self.add(inner, f"{_label(path)} has an empty name", expected="a name", at_key=True)
                self.check(item, extra, inner)
        for name in node.get("required", ()):
            if name not in value:
                close = difflib.get_close_matches(name, [k for k in value if k not in properties], n=1)
                if not close:
                    label = _label(path) if path else "the configuration"
                    help_text = self.about(name, properties.get(name, {}))
                    self.add(path, f"{label} lacks the key `{name}`", help=help_text, at_key=True)

    def check_text(self, value: str, node: Schema, path: str) -> None:
        example = (node.get("examples") or [None])[0]
        what = node.get("title") or "a value"
        such = f'{what} such as "{example}"' if example else what
        pattern = node.get("pattern")
        wrong = pattern is not None and not re.search(pattern, value)
        if what == "a CIDR block":
            wrong = not _is_network(value)
        if wrong:
            self.add(path, f"{_label(path)} is not {what}", expected=such, got=_show(value))
        if len(value) < node.get("minLength", 0):
            self.add(path, f"{_label(path)} must not be empty", expected="some text", got=_show(value))

    def check_number(self, value: float, node: Schema, path: str) -> None:
        low, high = _range(node)
        if not math.isfinite(value) or value < low or value > high:
            if math.isfinite(high) and high < 2**53:
                bounds = f"{_plain(low)} to {_plain(high)}"
            else:
                bounds = f"{_plain(low)} or more"
            self.add(path, f"{_label(path)} is out of range", expected=bounds, got=_show(value))

    def check_name(self, value: Any, names: list[str], path: str) -> None:
        if isinstance(value, str) and value in names:
            return
        near = nearest(value, names) if isinstance(value, str) else None
        quoted = _one_of([f'"{n}"' for n in names])
        self.add(path, f"{_label(path)} has no such value", expected=quoted, got=_show(value), nearest=near)

    def check_kind(self, value: Any, kinds: list[Schema], path: str) -> None:
        """A table with exactly one key, which says its kind (`[policies.x.rate_limit]`)."""
        by_name: dict[str, Any] = {name: k["properties"][name] for k in kinds for name in k["required"]}
        if not isinstance(value, dict):
            message = f"{_label(path)} must be a table"
            self.add(path, message, expected=f"a table with one of: {_one_of(list(by_name))}", got=_show(value))
            return
        for name, item in value.items():
            if name in by_name:
                self.check(item, by_name[name], f"{path}.{name}")
                continue
            near = nearest(name, list(by_name))
            message = f"unknown kind `{name}` in {_label(path)}"
            expected = None if near else _one_of(list(by_name))
            self.add(f"{path}.{name}", message, expected=expected, nearest=near, at_key=True)
        if len(value) != 1 and all(name in by_name for name in value):
            got = ", ".join(f"`{n}`" for n in value) or "an empty table"
            help_text = f"write it as [{path}.KIND], one name for each kind"
            self.add(
                path, f"{_label(path)} must have exactly one kind", _one_of(list(by_name)), got, None, help_text, True
            )

    def check_choice(self, value: Any, choices: list[Any], node: Schema, path: str) -> None:
        """An untagged choice: the problems shown are those of the form that the value's type points to."""
        forms = [self.resolve(c) for c in choices]
        fitting = [f for f in forms if _accepts(f, value) or _names(f) is not None and isinstance(value, str)]
        if not fitting:
            what = " or ".join(dict.fromkeys(self.what(f) for f in forms))
            self.add(path, f"{_label(path)} must be {what}", expected=what, got=_show(value))
            return
        best: list[Problem] | None = None
        for form in fitting:
            trial = _Walker(self.root)
            trial.check(value, form, path)
            if best is None or len(trial.problems) < len(best):
                best = trial.problems
        self.problems += best or []

    def what(self, node: Any) -> str:
        """`a list of strings`, `a duration`, `a table`."""
        node = self.resolve(node)
        if (names := _names(node)) is not None:
            return _one_of([f'"{n}"' for n in names])
        if choices := node.get("anyOf") or node.get("oneOf"):
            return " or ".join(dict.fromkeys(self.what(c) for c in choices))
        kind = _kind(node)
        if kind == "string" and node.get("examples"):
            return f'{node.get("title", "a string")} such as "{node["examples"][0]}"'
        if kind == "array" and isinstance(node.get("items"), dict):
            return "a list of " + _plural(self.what(node["items"]))
        return _TYPES.get(kind or "", "a value")

    def about(self, name: str, node: Any) -> str | None:
        """`KEY` is …: the documentation line of a key."""
        text = node.get("description") if isinstance(node, dict) else None
        return f"`{name}`: {text}" if text else None

    def add(
        self,
        path: str,
        message: str,
        expected: str | None = None,
        got: str | None = None,
        nearest: str | None = None,
        help: str | None = None,
        at_key: bool = False,
    ) -> None:
        if got and is_secret(path):
            got = "a value that is not shown"
        self.problems.append(Problem(path, message, expected, got, nearest, help, at_key=at_key))


def _names(node: Schema) -> list[str] | None:
    """The values of an enumeration of names, however the schema spells it."""
    if "enum" in node and all(isinstance(v, str) for v in node["enum"]):
        return list(node["enum"])
    if isinstance(node.get("const"), str):
        return [node["const"]]
    if "oneOf" in node and node["oneOf"]:
        parts = [_names(part) for part in node["oneOf"]]
        if all(part is not None for part in parts):
            return [name for part in parts for name in part or ()]
    return None


def _kind(node: Schema) -> str | None:
    kind = node.get("type")
    return next((k for k in kind if k != "null"), None) if isinstance(kind, list) else kind


def _accepts(node: Schema, value: Any) -> bool:
    match _kind(node):
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case _:
            return True


def _range(node: Schema) -> tuple[float, float]:
    low, high = node.get("minimum", -math.inf), node.get("maximum", math.inf)
    if found := re.fullmatch(r"(u?)int(\d+)", node.get("format", "")):
        bits = int(found[2])
        low = max(low, 0 if found[1] else -(2 ** (bits - 1)))
        high = min(high, 2**bits - 1 if found[1] else 2 ** (bits - 1) - 1)
    return low, high


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return False
    return True


def _label(path: str) -> str:
    return f"`{path}`" if path else "the configuration"


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _plural(what: str) -> str:
    for singular, plural in (("a string", "strings"), ("a table", "tables"), ("a whole number", "whole numbers")):
        what = what.replace(singular, plural)
    return what


def _one_of(names: list[str]) -> str:
    if len(names) <= 1:
        return "".join(names) or "nothing"
    if len(names) > 12:
        return ", ".join(names[:12]) + f" or {len(names) - 12} more"
    return ", ".join(names[:-1]) + " or " + names[-1]


def _show(value: Any) -> str:
    """A value as it is quoted in a message: short, and without what could be a secret."""
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "…"
        return "an empty string" if not value else json.dumps(text, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return _KINDS.get(type(value), type(value).__name__)

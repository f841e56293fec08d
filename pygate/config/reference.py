"""Writes the reference pages of `docs/` from what the data plane itself knows.

    python -m pygate.config.reference docs      writes configuration.md and errors.md (`make docs`)

The configuration page is the JSON Schema in a reader's order, the errors page the table in `core::error`. Nothing is
told here that is not in one of them, so the pages cannot drift; a test compares them with the checked-in files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygate import _core
from pygate.config.schema import schema

Node = dict[str, Any]

CONFIGURATION = """\
# Configuration

<!-- Made by `make docs` from the configuration's Rust types: change their comments, not this page. -->

TOML, in one file or in all `*.toml` files of a directory. `include` names further files. Files are merged and never
override each other: a name or key given twice is an error.

- A duration is written `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`; a size `"512B"`, `"64KiB"`, `"10MB"`; a rate
  `"100/s"`, `"60/m"`, `"1000/h"`.
- A secret is a reference: `env:NAME` or `file:PATH`.
- A relative path in `include` counts from the file it stands in; one in `guard.packs` and `plugins.NAME.load` from the
  first configuration file; every other one from the directory that pygate was started in.
- An unknown key is an error. `pygate check FILE` reports all errors at once; `pygate schema` prints the JSON Schema
  behind this page, for editors.

"""

ERRORS = """\
# Errors

<!-- Made by `make docs` from the table in rust/core/src/error.rs: change it there, not here. -->

When the gateway answers a request itself because something is wrong, it sends one of these codes. They never change
their meaning. The answer carries `x-pygate-error: CODE`, the exchange id in `x-request-id`, and a body of RFC 9457:

```console
$ curl -i http://127.0.0.1:8080/nowhere
HTTP/1.1 404 Not Found
content-type: application/problem+json
x-request-id: 01a20af7-41e7-7ab2-adb7-94a19c49cd40
date: Tue, 24 Nov 2026 00:31:46 GMT
x-pygate-error: no-route
content-length: 109

{"title":"No route matches","status":404,"code":"no-route","exchange":"01a20af7-41e7-7ab2-adb7-94a19c49cd40"}
```

`detail` may say more, for people. No internal address, secret or stack trace is ever part of an answer; the audit
record has the rest: `pygate audit show EXCHANGE`.

An answer without `x-pygate-error` was made by the upstream or by a policy that answers on purpose (`answer`,
`redirect`, a CORS preflight). When something fails after an answer's head was sent, the connection is cut, so that the
client cannot take the part for the whole; record and metrics carry the code.

"""


def configuration() -> str:
    """`docs/configuration.md`."""
    return CONFIGURATION + "\n\n".join(_Page(schema()).blocks()) + "\n"


def errors() -> str:
    """`docs/errors.md`."""
    lines = ["| code | status | title | why |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {status} | {title} | {_cell(cause)} |" for name, status, title, cause in _core.error_table()
    ]
    return ERRORS + "\n".join(lines) + "\n"


class _Page:
    """Sections in the order of the schema; a table of keys with tables inside is followed by those."""

    def __init__(self, root: Node) -> None:
        self._root = root

    def blocks(self) -> Iterator[str]:
        top: dict[str, Node] = self._root["properties"]
        rows = [f"| [`{key}`](#{key}) | {_cell(node.get('description', ''))} |" for key, node in top.items()]
        yield "\n".join(["| key | what |", "|---|---|", *rows])
        for key, node in top.items():
            yield f"## {key}"
            yield from self._section(key, node)

    def _section(self, key: str, node: Node) -> Iterator[str]:
        described = self._resolve(node)
        if inner := described.get("items"):
            inner = self._resolve(inner)
            if "properties" not in inner:
                yield f"A {self._type(node)}. {node['description']}"
            else:
                yield from self._table(f"[[{key}]]", inner, 3)
        elif isinstance(described.get("additionalProperties"), dict):
            yield from self._named(f"{key}.NAME", described["additionalProperties"])
        else:
            yield from self._table(f"[{key}]", described, 3)

    def _named(self, path: str, node: Node) -> Iterator[str]:
        node = self._resolve(node)
        if "oneOf" not in node:
            yield from self._table(f"[{path}]", node, 3)
            return
        yield "Each has exactly one kind:"
        kinds = [(name, kind["properties"][name], kind) for kind in node["oneOf"] for name in kind["required"]]
        rows = [
            f"| [`{name}`](#policiesname{name}) | {_cell(kind.get('description', ''))} |" for name, _, kind in kinds
        ]
        yield "\n".join(["| kind | what |", "|---|---|", *rows])
        for name, inner, _ in kinds:
            yield from self._table(f"[{path}.{name}]", self._resolve(inner), 3)

    def _table(self, title: str, node: Node, level: int) -> Iterator[str]:
        """A table's keys, then the tables that are values of them."""
        yield f"{'#' * level} `{title}`"
        if text := node.get("description"):
            yield _line(text)
        if not node.get("properties"):
            yield "It has no keys."
            return
        required = node.get("required", ())
        lines = ["| key | type | default | what |", "|---|---|---|---|"]
        deeper: list[tuple[str, Node]] = []
        for key, item in node["properties"].items():
            default = "**required**" if key in required else _default(item.get("default"), self._inner(item))
            what = " ".join([_line(item.get("description", "")), *self._choices(item)]).strip()
            lines.append(f"| `{key}` | {_cell(self._type(item))} | {default} | {_cell(what)} |")
            if inner := self._inner(item):
                deeper.append((key, inner))
            elif named := self._inner(self._extra(item)):
                deeper.append((f"{key}.NAME", named))
        yield "\n".join(lines)
        for key, inner in deeper:
            path = title.strip("[]")
            yield from self._table(f"{path}.{key}", inner, level + 1)

    def _inner(self, node: Node) -> Node | None:
        """The table among the forms of a value, if one of them is a table with keys of its own."""
        node = self._resolve(node)
        forms = [
            node,
            node.get("items", {}),
            *node.get("anyOf", ()),
            *self._resolve(node.get("items", {})).get("anyOf", ()),
        ]
        for form in map(self._resolve, forms):
            if "properties" in form:
                return form
        return None

    def _extra(self, node: Node) -> Node:
        """What the values of a table of names are; nothing for other values."""
        extra = self._resolve(node).get("additionalProperties")
        return extra if isinstance(extra, dict) else {}

    def _resolve(self, node: Node) -> Node:
        """Follows references; drops `null` from a choice of two."""
        while True:
            rest = [form for form in node.get("anyOf", ()) if form.get("type") != "null"]
            if "$ref" in node:
                node = self._root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
            elif len(rest) == 1:
                node = rest[0]
            else:
                return node

    def _type(self, node: Node) -> str:
        node = self._resolve(node)
        if names := _names(node):
            return " or ".join(f'`"{name}"`' for name in names)
        if forms := node.get("anyOf"):
            return " or ".join(dict.fromkeys(self._type(form) for form in forms))
        if node.get("title") and node["type"] == "string":
            return str(node["title"]).removeprefix("a ")
        kind = node["type"] if isinstance(node["type"], str) else node["type"][0]
        if kind == "array":
            return "list of " + _plural(self._type(node["items"]))
        if kind == "object":
            extra = node.get("additionalProperties")
            return "table of " + _plural(self._type(extra)) if isinstance(extra, dict) else "table"
        return {"boolean": "true or false", "integer": "whole number"}.get(kind, kind)

    def _choices(self, node: Node) -> Iterator[str]:
        """What the values of an enumeration mean, where that is said."""
        for form in self._resolve(node).get("oneOf", ()):
            if names := _names(form):
                text = form.get("description")
                if text:
                    yield f'`"{names[0]}"`: {_line(text)}'


def _names(node: Node) -> list[str]:
    if isinstance(node.get("const"), str):
        return [node["const"]]
    if "enum" in node:
        return [str(name) for name in node["enum"]]
    parts = [_names(form) for form in node.get("oneOf", ())]
    return [name for part in parts for name in part] if all(parts) else []


def _plural(kinds: str) -> str:
    return " or ".join(f"{kind}s" for kind in kinds.split(" or "))


def _default(value: Any, inner: Node | None) -> str:
    if value is None or value in ("", [], {}) or (inner is not None and isinstance(value, dict)):
        return ""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def main(argv: list[str]) -> int:
    """Writes both pages into the directory named first."""
    directory = Path(argv[0] if argv else "docs")
    for name, text in (("configuration.md", configuration()), ("errors.md", errors())):
        (directory / name).write_text(text, encoding="utf-8")
        print(f"wrote {directory / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The model: what is answered to a prompt, the same for every dialect and always the same.

- The answer is the text of the last user turn, followed by what was attached to it. A turn of tool results is
  answered by `result: …`.
- `call NAME({…})` in that text, once or more, is answered by calls of those tools if the request has them (and its tool
  choice allows); a tool that must be called and is not asked for gets arguments made from its schema.
- A schema is answered by a value of that schema, JSON mode by `{"echo": text}`.
- `count to N` is answered by the numbers, `refuse` by a refusal, `describe` by JSON of the prompt as it was understood.
- Reasoning, if asked for, comes first: `thinking about: …`.

A token is a word of the prompt, or a piece of the answer: a word, five characters of arguments or JSON. An image or
document counts 85, a tool 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from tests.providers.memory import Memory
from tests.providers.wire import Usage

ATTACHED = 85
TOOL = 3
PIECE = 5
_CALL = re.compile(r"\bcall\s+([A-Za-z_][\w.-]*)\(")
_COUNT = re.compile(r"^\s*count to (\d{1,6})\s*$", re.IGNORECASE)
_DECODER_SPACE = re.compile(r"\s*")


@dataclass
class Turn:
    role: Literal["user", "assistant", "tool"]
    text: str = ""
    attached: list[str] = field(default_factory=list)
    """`image image/png 68`: sort, media type, octets (or `url`)."""
    calls: list[str] = field(default_factory=list)
    """Names of tools that the assistant called."""
    marked: bool = False
    """A cache breakpoint stands here."""


@dataclass
class Prompt:
    turns: list[Turn]
    system: str = ""
    tools: dict[str, Any] = field(default_factory=dict)
    """Name → schema of its arguments."""
    choice: str = "auto"
    """`auto`, `none`, `required`, or the name of a tool after `=`."""
    parallel: bool = True
    schema: Any = None
    json: bool = False
    reasoning: bool = False
    limit: int | None = None
    stop: list[str] = field(default_factory=list)
    cache: Literal["none", "automatic", "marked"] = "none"
    system_marked: bool = False

    def describe(self) -> dict[str, Any]:
        return {
            "system": self.system,
            "turns": [
                {"role": turn.role, "text": turn.text, "attached": turn.attached, "calls": turn.calls}
                for turn in self.turns
            ],
            "tools": sorted(self.tools),
            "choice": self.choice,
            "reasoning": self.reasoning,
            "limit": self.limit,
            "stop": self.stop,
        }


@dataclass
class Spoken:
    name: str
    arguments: str

    @property
    def pieces(self) -> list[str]:
        return pieces_of(self.arguments)

    @property
    def tokens(self) -> int:
        return len(self.pieces) + 1


@dataclass
class Reply:
    finish: Literal["stop", "length", "tools", "refused"]
    usage: Usage
    reasoning: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    calls: list[Spoken] = field(default_factory=list)
    stopped_by: str | None = None
    """The stop sequence that ended it."""


def words(text: str) -> int:
    return len(text.split())


def pieces_of(text: str) -> list[str]:
    """JSON as it is streamed."""
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


def spoken(text: str) -> list[str]:
    """Words, each with the space after it."""
    return re.findall(r"\s*\S+ ?|\s+", text)


def input_tokens(prompt: Prompt) -> int:
    return _system_tokens(prompt) + sum(_turn_tokens(turn) for turn in prompt.turns)


def _system_tokens(prompt: Prompt) -> int:
    return words(prompt.system) + TOOL * len(prompt.tools)


def _turn_tokens(turn: Turn) -> int:
    return words(turn.text) + ATTACHED * len(turn.attached) + TOOL * len(turn.calls)


def asked_calls(text: str) -> list[Spoken]:
    """Every `call NAME({…})` in a text."""
    found = []
    for match in _CALL.finditer(text):
        inner = _json_at(text, match.end())
        if inner is not None:
            found.append(Spoken(match[1], inner))
    return found


def _json_at(text: str, start: int) -> str | None:
    """The JSON object that starts there; the empty one for `()`."""
    start = _DECODER_SPACE.match(text, start).end()  # type: ignore[union-attr]
    if text.startswith(")", start):
        return "{}"
    depth, quoted, escaped = 0, False, False
    for at in range(start, len(text)):
        letter = text[at]
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = letter == "\\", letter != '"'
        elif letter == '"':
            quoted = True
        elif letter in "{[":
            depth += 1
        elif letter in "}]":
            depth -= 1
            if depth == 0:
                piece = text[start : at + 1]
                try:
                    orjson.loads(piece)
                except orjson.JSONDecodeError:
                    return None
                return piece
        elif depth == 0:
            return None
    return None


def sample(schema: Any, text: str, root: Any = None, depth: int = 0) -> Any:
    """A value of a JSON schema: strings are the text, numbers its count of words."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > 16:
        return None
    if isinstance(reference := schema.get("$ref"), str):
        target = root
        for part in reference.lstrip("#/").split("/"):
            target = target.get(part, {}) if isinstance(target, dict) else {}
        return sample(target, text, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return sample(schema[union][0], text, root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    kind = str(kind or ("object" if "properties" in schema else "string")).lower()
    if kind == "object":
        return {name: sample(part, text, root, depth + 1) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [
            sample(schema.get("items", {}), text, root, depth + 1) for _ in range(max(schema.get("minItems", 1), 1))
        ]
    return {"integer": words(text), "number": words(text) + 0.5, "boolean": True, "null": None}.get(kind, text)


def answer(prompt: Prompt, memory: Memory, owner: str) -> Reply:
    """`owner` keeps the prompt caches of providers and keys apart."""
    last = prompt.turns[-1] if prompt.turns else Turn("user")
    reply = Reply("stop", Usage(input=input_tokens(prompt)))
    _cache(prompt, memory, owner, reply.usage)
    if prompt.reasoning:
        reply.reasoning = spoken("thinking about: " + " ".join(last.text.split()[:8]))
    if last.role != "tool" and last.text.strip() == "refuse":
        reply.finish, reply.text = "refused", spoken("I will not do that")
    elif calls := _calls(prompt, last):
        reply.finish, reply.calls = "tools", calls
    else:
        text, structured = _text(prompt, last)
        for stop in prompt.stop:
            if stop and stop in text:
                text, reply.stopped_by = text[: text.index(stop)], stop
        reply.text = pieces_of(text) if structured else spoken(text)
    _limit(prompt.limit, reply)
    reply.usage.reasoning = len(reply.reasoning)
    reply.usage.output = len(reply.reasoning) + len(reply.text) + sum(call.tokens for call in reply.calls)
    return reply


def _calls(prompt: Prompt, last: Turn) -> list[Spoken]:
    if not prompt.tools or prompt.choice == "none" or last.role == "tool":
        return []
    only = prompt.choice[1:] if prompt.choice.startswith("=") else None
    calls = [call for call in asked_calls(last.text) if call.name in prompt.tools and only in (None, call.name)]
    if not calls and (only or prompt.choice == "required"):
        name = only or next(iter(prompt.tools))
        arguments = sample(prompt.tools.get(name) or {"type": "object"}, last.text) or {}
        calls = [Spoken(name, orjson.dumps(arguments).decode())]
    return calls if prompt.parallel else calls[:1]


def _text(prompt: Prompt, last: Turn) -> tuple[str, bool]:
    """What is said, and whether it is JSON."""
    if prompt.schema is not None:
        return orjson.dumps(sample(prompt.schema, last.text)).decode(), True
    if prompt.json:
        return orjson.dumps({"echo": last.text}).decode(), True
    if last.role == "tool":
        return f"result: {last.text}", False
    if last.text.strip() == "describe":
        return orjson.dumps(prompt.describe()).decode(), True
    if match := _COUNT.match(last.text):
        return " ".join(str(number) for number in range(1, int(match[1]) + 1)), False
    return last.text + "".join(f" [{what}]" for what in last.attached), False


def _limit(limit: int | None, reply: Reply) -> None:
    if limit is None:
        return
    total = len(reply.reasoning) + len(reply.text) + sum(call.tokens for call in reply.calls)
    if total <= limit:
        return
    reply.finish, reply.stopped_by = "length", None
    reply.reasoning = reply.reasoning[:limit]
    left = limit - len(reply.reasoning)
    reply.text = reply.text[:left]
    kept: list[Spoken] = []
    for call in reply.calls:
        if call.tokens > left:
            break
        kept.append(call)
        left -= call.tokens
    reply.calls = kept


def _cache(prompt: Prompt, memory: Memory, owner: str, usage: Usage) -> None:
    """Automatic: prefixes of at least 1,024 tokens are found again, in steps of 128. Marked: up to the last mark,
    written first and read afterwards."""
    if prompt.cache == "none":
        return
    parts = [(prompt.system + "".join(sorted(prompt.tools)), _system_tokens(prompt), prompt.system_marked)]
    parts += [(turn.role + turn.text, _turn_tokens(turn), turn.marked) for turn in prompt.turns]
    if prompt.cache == "automatic":
        found = memory.prefix(owner, [text for text, _, _ in parts])
        tokens = sum(count for _, count, _ in parts[:found])
        usage.cached_read = tokens // 128 * 128 if tokens >= 1024 else 0
        memory.remember(owner, [text for text, _, _ in parts])
        return
    marks = [at + 1 for at, part in enumerate(parts) if part[2]]
    if not marks:
        return
    texts = [text for text, _, _ in parts[: marks[-1]]]
    found = max((mark for mark in marks if memory.prefix(owner, texts[:mark]) == mark), default=0)
    usage.cached_read = sum(count for _, count, _ in parts[:found])
    usage.cached_write = sum(count for _, count, _ in parts[found : marks[-1]])
    memory.remember(owner, texts)

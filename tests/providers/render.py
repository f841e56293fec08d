"""From events to octets: server-sent events, a JSON array, AWS event-stream frames, each as a fault wants it."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from tests.providers.event_stream import frame
from tests.providers.faults import Effects
from tests.providers.wire import Event, Streamed

KINDS = {
    "sse": "text/event-stream; charset=utf-8",
    "array": "application/json; charset=UTF-8",
    "aws": "application/vnd.amazon.eventstream",
}
NEWLINES = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}


def octets(answer: Streamed, effects: Effects) -> Iterator[tuple[Event, bytes]]:
    """Each event with what is written for it. Deltas are counted here for `malformed` only."""
    deltas = 0
    first = True
    for event in answer.events:
        deltas += event.kind == "delta"
        broken = event.kind == "delta" and deltas == effects.malformed
        if answer.framing == "sse":
            yield event, (b"\xef\xbb\xbf" if first and effects.bom else b"") + _sse(event, effects, broken)
        elif answer.framing == "array":
            yield event, (b"[" if first else b",\n") + _json(event.data, broken)
        else:
            yield event, _aws(event, broken)
        first = False
    if answer.framing == "array" and effects.done is not False:
        yield Event("]", "end"), b"[]" if first else b"]"


def _json(data: object, broken: bool) -> bytes:
    text = orjson.dumps(data)
    return text[: len(text) * 2 // 3] if broken else text


def _sse(event: Event, effects: Effects, broken: bool) -> bytes:
    newline = NEWLINES[effects.newline or "lf"]
    colon = b":" if effects.no_space else b": "
    lines = [b": keep going"] if effects.comments else []
    if event.name == ":":
        return b": " + str(event.data).encode() + newline * 2
    if event.name is not None:
        lines.append(b"event" + colon + event.name.encode())
    if isinstance(event.data, str):
        text = event.data.encode()
    elif effects.multiline and not broken:
        text = orjson.dumps(event.data, option=orjson.OPT_INDENT_2)
    else:
        text = _json(event.data, broken)
    lines += [b"data" + colon + line for line in text.split(b"\n")]
    return newline.join(lines) + newline * 2


def comment(text: str) -> Event:
    """A stream's own comment, as OpenRouter sends them."""
    return Event(text, "other", ":")


def _aws(event: Event, broken: bool) -> bytes:
    name = event.name or ""
    kind = "exception" if name.endswith("Exception") else "event"
    headers = {
        f":{kind}-type": name,
        ":content-type": "application/json",
        ":message-type": kind,
    }
    made = frame(headers, orjson.dumps(event.data))
    return made[:-1] + bytes([made[-1] ^ 0xFF]) if broken else made

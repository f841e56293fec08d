"""HTTP/2 rows: a readable list of frames, and the bytes they are.

Frames are built one by one with `hyperframe` and `hpack`: a client library would refuse to send most of them. A step is
a table with one of these keys, beside those of `steps.py` (`wait` names an event, see `multiplexed.Reader.reached`):

- `get = PATH` or `post = PATH`, with `fields = [[NAME, VALUE], …]`: a request with its pseudo-header fields
- `headers = [[NAME, VALUE], …]` or `block = TEXT` (a header block as it is), with `stream`, `end` (END_STREAM, default
  true), `end_headers` (default true), `pad` (bytes), `depends` (stream of a priority)
- `continuation = [[NAME, VALUE], …]` or `continuation = TEXT`, with `stream`, `end_headers`, `times`
- `data = TEXT`, with `stream`, `end`, `pad`
- `settings = { NUMBER = VALUE }`, `ack = true`, `rst = CODE` with `stream`, `window = N` with `stream`, `ping = TEXT`,
  `goaway = CODE`
- `frame = TYPE`, with `flags`, `stream`, `body`: any frame
- `raw = TEXT`: any bytes
- `many = [STEP, …]`, `times = N`
- `bare = true` as the first step: neither preface nor settings are sent before

`stream` is a number (default 1), "next" (the next one a client may open) or "last" (the one opened last).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: Frame types by name, for `frame = …`.
TYPES = {
    "DATA": 0,
    "HEADERS": 1,
    "PRIORITY": 2,
    "RST_STREAM": 3,
    "SETTINGS": 4,
    "PUSH_PROMISE": 5,
    "PING": 6,
    "GOAWAY": 7,
    "WINDOW_UPDATE": 8,
    "CONTINUATION": 9,
    "ALTSVC": 10,
}

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """RFC 9113 §4.1."""
    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body


class Writer:
    """Steps to bytes; remembers the compression state and which streams were opened."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self.last = -1

    def steps(self, steps: Sequence[Any]) -> list[Any]:
        """The same steps with all frames as text, the start of a connection before them."""
        steps = list(steps)
        if steps and isinstance(steps[0], dict) and steps[0].get("bare"):
            return list(self.encoded(steps[1:]))
        start = PREFACE + frame(TYPES["SETTINGS"], 0, 0, b"")
        ack = frame(TYPES["SETTINGS"], ACK, 0, b"")
        return [start.decode("latin-1"), {"wait": "settings"}, ack.decode("latin-1"), *self.encoded(steps)]

    def encoded(self, steps: Sequence[Any]) -> Iterator[Any]:
        for step in steps:
            if isinstance(step, str):
                raise ValueError(f"a step of frames is a table: {step!r}")
            if "many" in step:
                for _ in range(step["times"]):
                    yield from self.encoded(step["many"])
            elif step.keys() & {"wait", "pause", "close"}:
                yield step
            else:
                yield self._frame(step).decode("latin-1")

    def _stream(self, step: dict[str, Any], opens: bool) -> int:
        stream = step.get("stream", 1)
        if stream == "next":
            stream = self.last + 2
        elif stream == "last":
            stream = self.last
        if opens and stream % 2 == 1:
            self.last = max(self.last, stream)
        return int(stream)

    def _block(self, fields: Any) -> bytes:
        if isinstance(fields, str):
            return fields.encode("latin-1")
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        return bytes(self._encoder.encode(pairs, huffman=False))

    def _frame(self, step: dict[str, Any]) -> bytes:
        flags = int(step.get("flags", 0))
        for method in ("get", "post"):
            if method in step:
                pseudo = [
                    [":method", method.upper()],
                    [":scheme", "http"],
                    [":authority", "h"],
                    [":path", step[method]],
                ]
                step = {**step, "headers": [*pseudo, *step.get("fields", [])]}
        if "headers" in step or "block" in step:
            body = self._block(step.get("block", step.get("headers")))
            flags |= END_STREAM * step.get("end", True) | END_HEADERS * step.get("end_headers", True)
            if "depends" in step:
                flags |= PRIORITY
                body = struct.pack(">IB", step["depends"], 15) + body
            return self._padded(step, TYPES["HEADERS"], flags, self._stream(step, True), body)
        if "continuation" in step:
            body = self._block(step["continuation"]) * step.get("times", 1)
            flags |= END_HEADERS * step.get("end_headers", True)
            return frame(TYPES["CONTINUATION"], flags, self._stream(step, False), body)
        if "data" in step:
            flags |= END_STREAM * step.get("end", True)
            return self._padded(step, TYPES["DATA"], flags, self._stream(step, False), step["data"].encode("latin-1"))
        if "settings" in step:
            body = b"".join(struct.pack(">HI", int(number), value) for number, value in step["settings"].items())
            return frame(TYPES["SETTINGS"], flags, 0, body)
        if "ack" in step:
            return frame(TYPES["SETTINGS"], ACK, 0, b"")
        if "rst" in step:
            return frame(TYPES["RST_STREAM"], flags, self._stream(step, False), struct.pack(">I", step["rst"]))
        if "window" in step:
            stream = self._stream({"stream": step.get("stream", 0)}, False)
            return frame(TYPES["WINDOW_UPDATE"], flags, stream, struct.pack(">I", step["window"]))
        if "ping" in step:
            return frame(TYPES["PING"], flags, int(step.get("stream", 0)), step["ping"].encode("latin-1"))
        if "goaway" in step:
            return frame(TYPES["GOAWAY"], flags, 0, struct.pack(">II", 2**31 - 1, step["goaway"]))
        if "frame" in step:
            kind = step["frame"] if isinstance(step["frame"], int) else TYPES[step["frame"]]
            return frame(kind, flags, self._stream(step, False), step.get("body", "").encode("latin-1"))
        if "raw" in step:
            return bytes(step["raw"].encode("latin-1"))
        raise ValueError(f"a step that is none: {step!r}")

    @staticmethod
    def _padded(step: dict[str, Any], kind: int, flags: int, stream: int, body: bytes) -> bytes:
        if "pad" in step:
            return frame(kind, flags | PADDED, stream, bytes((step["pad"],)) + body + bytes(step["pad"]))
        return frame(kind, flags, stream, body)

"""An upstream that speaks HTTP/2 by prior knowledge, and answers in frames as the row at hand says.

In a row's `answer`, the stream of the request is called "this". What the gateway sends is checked as its client's
frames are: names in lower case, pseudo-header fields first and once, nothing of HTTP/1's connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from hpack import Decoder
from hpack.exceptions import HPACKError
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, RstStreamFrame, SettingsFrame

from tests.hostile.frames import PREFACE, TYPES, Writer, frame
from tests.hostile.messages import Malformed, Message
from tests.hostile.steps import pieces, play

if TYPE_CHECKING:
    from tests.hostile.upstream import Upstream

ACK = 1

#: RFC 9113 §8.2.2.
CONNECTION = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")


class FramedConnection(asyncio.Protocol):
    """One HTTP/2 connection from the gateway."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._buffer = b""
        self._greeted = False
        self._decoder, self._writer = Decoder(), Writer()
        self._fragment = b""
        self._open: dict[int, Message] = {}
        #: Other frames wait while a script sends parts of frames.
        self._playing: asyncio.Future[None] | None = None
        self._held = self._unsent = b""

    @property
    def rest(self) -> bytes:
        """Of requests that are not complete: something, if there are any."""
        return b"".join(f"{m.start[0]} {m.start[1]} ".encode() + m.body for m in self._open.values())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._upstream.open.add(self)
        self.transport.write(frame(TYPES["SETTINGS"], 0, 0, b""))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._upstream.open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._upstream.record.touched.add(self)
        self._buffer += data
        try:
            self._read()
        except (HyperframeError, HPACKError, Malformed) as e:
            self._upstream.record.malformed.append(f"{type(e).__name__} {e}")
            self.close()

    def _read(self) -> None:
        if not self._greeted:
            if len(self._buffer) < len(PREFACE):
                return
            if not self._buffer.startswith(PREFACE):
                raise Malformed(f"no preface: {self._buffer[:40]!r}")
            self._buffer, self._greeted = self._buffer[len(PREFACE) :], True
        while len(self._buffer) >= 9:
            found, length = Frame.parse_frame_header(memoryview(self._buffer[:9]))
            if len(self._buffer) < 9 + length:
                return
            found.parse_body(memoryview(self._buffer[9 : 9 + length]))
            self._buffer = self._buffer[9 + length :]
            self._take(found)

    def _take(self, found: Frame) -> None:
        stream = found.stream_id
        if isinstance(found, SettingsFrame) and "ACK" not in found.flags:
            self._write(frame(TYPES["SETTINGS"], ACK, 0, b""))
        elif isinstance(found, (HeadersFrame, ContinuationFrame)):
            self._fragment += found.data
            if "END_HEADERS" in found.flags:
                block, self._fragment = self._fragment, b""
                fields = [
                    (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
                    for name, value, *_ in self._decoder.decode(block, raw=True)
                ]
                if stream in self._open:
                    self._open[stream].trailers = fields
                else:
                    self._open[stream] = _request(fields)
                    self._head(stream)
        elif isinstance(found, DataFrame) and stream in self._open:
            self._open[stream].body += found.data
            if found.data:
                for about in (0, stream):
                    self._write(
                        frame(TYPES["WINDOW_UPDATE"], 0, about, found.flow_controlled_length.to_bytes(4, "big"))
                    )
        elif isinstance(found, RstStreamFrame):
            self._open.pop(stream, None)
            return
        if "END_STREAM" in found.flags and stream in self._open:
            self._end(stream, self._open.pop(stream))

    def _head(self, stream: int) -> None:
        upstream = self._upstream
        if upstream.answer and upstream.answer_at == "head" and not _own(self._open[stream]):
            self._give(upstream.answer, stream)

    def _end(self, stream: int, message: Message) -> None:
        upstream = self._upstream
        if not _own(message):
            upstream.record.requests.append((self, message))
            if upstream.answer:
                if upstream.answer_at == "end":
                    self._give(upstream.answer, stream)
                return
        method, target = message.start
        fields = [[":status", "200"], ["x-saw", f"{method} {target}"]]
        steps: list[Any] = [{"headers": fields, "stream": stream, "end": method == "HEAD"}]
        if method != "HEAD":
            steps.append({"data": "seen", "stream": stream})
        for step in self._writer.encoded(steps):
            self._write(step.encode("latin-1"))

    def _give(self, steps: Sequence[Any], stream: int) -> None:
        upstream, transport = self._upstream, self.transport
        assert transport is not None
        upstream.record.answered = self
        script = list(self._writer.encoded([_on(step, stream) for step in steps]))
        upstream.playing = asyncio.ensure_future(play(script, transport, upstream.cut, lambda _: True, self._part))
        if upstream.cut is not None:
            self._playing, self._unsent = upstream.playing, b"".join(_texts(pieces(script, upstream.cut)))
            upstream.playing.add_done_callback(self._played)

    def _part(self, piece: bytes) -> None:
        assert self.transport is not None
        self._unsent = self._unsent[len(piece) :]
        self.transport.write(piece)

    def _played(self, script: asyncio.Future[None]) -> None:
        """The script is over; one that was called off is sent to its end at once, so that no frame stays torn."""
        if script is self._playing:
            self._playing = None
            unsent, self._unsent = self._unsent, b""
            held, self._held = self._held, b""
            self._write(unsent + held)

    def _write(self, data: bytes) -> None:
        if self._playing is not None:
            self._held += data
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            with contextlib.suppress(OSError):
                self.transport.close()


def _texts(steps: Sequence[Any]) -> list[bytes]:
    return [step for step in steps if isinstance(step, bytes)]


def _own(message: Message) -> bool:
    return message.target.startswith("/-/")


def _on(step: Any, stream: int) -> Any:
    """The step with "this" for the request's stream."""
    if isinstance(step, dict):
        if "many" in step:
            return {**step, "many": [_on(inner, stream) for inner in step["many"]]}
        if step.get("stream") == "this":
            return {**step, "stream": stream}
    return step


def _request(fields: list[tuple[str, str]]) -> Message:
    """RFC 9113 §8.3, to the letter."""
    pseudo = [(name, value) for name, value in fields if name.startswith(":")]
    names = [name for name, _ in pseudo]
    if fields[: len(pseudo)] != pseudo or len(set(names)) != len(names):
        raise Malformed(f"pseudo-header fields {names}")
    known = dict(pseudo)
    if not {":method", ":scheme", ":path"} <= set(known) or not known[":path"].startswith(("/", "*")):
        raise Malformed(f"pseudo-header fields {known}")
    for name, value in fields:
        if name != name.lower() or name in (
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        ):
            raise Malformed(f"field {name}")
        if any(byte in value for byte in "\r\n\0") or value != value.strip(" \t"):
            raise Malformed(f"field {name}: {value!r}")
    plain = [(name, value) for name, value in fields if not name.startswith(":")]
    return Message((known[":method"], known[":path"]), [("host", known.get(":authority", "")), *plain])

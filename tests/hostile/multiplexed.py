"""An HTTP/2 connection of the hostile client: carries out a row of frames and reads what the gateway sends back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from hpack import Decoder
from hpack.exceptions import HPACKError
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.hostile.client import Client
from tests.hostile.frames import Writer
from tests.hostile.judge import Observed
from tests.hostile.lanes import Lane
from tests.hostile.messages import Message
from tests.hostile.rows import PLAIN, Row
from tests.hostile.steps import Cut

#: RFC 9113 §7.
ERRORS = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)


class Reader:
    """What the gateway sent, frame by frame."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._at = 0
        self._fragment = b""
        self.settings = 0
        self.acks = 0
        self.pings = 0
        self.final: dict[int, Message] = {}
        self.interim: list[Message] = []
        self.ended: set[int] = set()
        self.rst: dict[int, str] = {}
        self.goaway: str | None = None
        self.trouble: list[str] = []

    def read(self, data: bytes) -> None:
        """All complete frames of `data`, the connection's bytes so far."""
        while len(data) - self._at >= 9 and not self.trouble:
            header = memoryview(data)[self._at : self._at + 9]
            try:
                found, length = Frame.parse_frame_header(header)
                if len(data) - self._at - 9 < length:
                    return
                found.parse_body(memoryview(data)[self._at + 9 : self._at + 9 + length])
                self._take(found)
            except (HyperframeError, HPACKError, ValueError) as e:
                self.trouble.append(f"the client cannot read frame {bytes(header).hex()}: {type(e).__name__} {e}")
            self._at += 9 + length

    def _take(self, found: Frame) -> None:
        stream = found.stream_id
        if isinstance(found, SettingsFrame):
            self.acks += "ACK" in found.flags
            self.settings += "ACK" not in found.flags
        elif isinstance(found, PingFrame):
            self.pings += 1
        elif isinstance(found, (HeadersFrame, ContinuationFrame)):
            self._fragment += found.data
            if "END_HEADERS" in found.flags:
                block, self._fragment = self._fragment, b""
                self._head(stream, self._decoder.decode(block, raw=True))
        elif isinstance(found, DataFrame):
            if stream not in self.final:
                raise ValueError(f"DATA before HEADERS on stream {stream}")
            self.final[stream].body += found.data
        elif isinstance(found, RstStreamFrame):
            self.rst[stream] = _error(found.error_code)
        elif isinstance(found, GoAwayFrame):
            self.goaway = _error(found.error_code)
        elif isinstance(found, PushPromiseFrame):
            raise ValueError("PUSH_PROMISE, which nobody asked for")
        elif not isinstance(found, WindowUpdateFrame):
            return
        if "END_STREAM" in found.flags:
            self.ended.add(stream)

    def _head(self, stream: int, fields: Iterable[Any]) -> None:
        pairs = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value, *_ in fields]
        for name, value in pairs:
            if name != name.lower() or any(c in value for c in "\r\n\0") or name in ("connection", "transfer-encoding"):
                raise ValueError(f"a field HTTP/2 does not know: {name}: {value!r}")
        if stream in self.final:
            self.final[stream].trailers = pairs
            return
        status = [value for name, value in pairs if name == ":status"]
        message = Message((status[0] if len(status) == 1 else "0", ""), [p for p in pairs if not p[0].startswith(":")])
        if 100 <= message.status < 200:
            self.interim.append(message)
        else:
            self.final[stream] = message

    def reached(self, event: str) -> bool:
        """Whether something has come: settings, ack, ping, goaway, `head N`, `end N`, `rst N`."""
        word, _, number = event.partition(" ")
        stream = int(number or 1)
        return {
            "settings": self.settings > 0,
            "ack": self.acks > 0,
            "ping": self.pings > 0,
            "goaway": self.goaway is not None,
            "head": stream in self.final or stream in self.rst,
            "end": stream in self.ended or stream in self.rst,
            "rst": stream in self.rst,
        }[word]

    def complete(self) -> list[Message]:
        """Answers that came to their end, by stream."""
        return [message for stream, message in sorted(self.final.items()) if stream in self.ended]


def _error(code: int) -> str:
    return ERRORS[code] if code < len(ERRORS) else f"0x{code:x}"


async def exchange(row: Row, protocol: str, cut: Cut, lane: Lane) -> Observed:
    """Carries out one row of frames."""
    context = None
    if protocol == "h2":
        assert lane.certificates is not None
        context = lane.certificates.client_context(["h2"])
    client = await Client.connect(lane.port, context)
    observed = Observed(http2=True)
    reader, writer = Reader(), Writer()

    def read() -> Reader:
        reader.read(bytes(client.received))
        return reader

    def settled() -> bool:
        read()
        wanted = len(row.statuses)
        answered = len(reader.complete()) >= max(wanted, 1)
        told = bool(reader.rst) and str(row.expect).startswith(("rst", "refused", "gateway", "error"))
        return client.closed or bool(reader.trouble) or answered or told or reader.goaway is not None

    try:
        if client.tls is not None and client.tls.selected_alpn_protocol() != "h2":
            observed.trouble.append(f"ALPN gave {client.tls.selected_alpn_protocol()} {client.tls_error}")
            return observed
        script = writer.steps([{"get": "/row"}] if row.send == (PLAIN,) else row.send)
        sending = asyncio.ensure_future(
            client.send(script, None if row.answer else cut, lambda event: read().reached(event))
        )
        await client.until(lambda: sending.done() or client.closed, row.timeout)
        await client.until(settled, row.timeout)
        if not sending.done():
            sending.cancel()
        read()
        observed.final, observed.interim = reader.complete(), list(reader.interim)
        observed.rst, observed.goaway = dict(reader.rst), reader.goaway
        ends = row.then == "closed" or str(row.expect).startswith(("goaway", "closed"))
        if row.then == "any":
            pass
        elif ends:
            await client.until(lambda: client.closed, row.timeout)
            if not client.closed:
                observed.trouble.append("the connection was not closed")
        elif row.expect == "error":
            await client.until(lambda: client.closed or bool(read().rst or read().goaway), row.timeout)
        elif not (reader.goaway or client.closed or reader.trouble):
            await _goes_on(client, reader, writer, observed)
        elif row.expect not in ("refused", "error", "gateway error"):
            observed.trouble.append("the connection did not outlive it")
        read()
        observed.goaway = reader.goaway
        observed.trouble += reader.trouble
        observed.raw = bytes(client.received)
        observed.closed, observed.reset = client.closed, client.reset
    finally:
        client.close()
    return observed


async def _goes_on(client: Client, reader: Reader, writer: Writer, observed: Observed) -> None:
    """The next stream of the connection is served."""
    stream = writer.last + 2
    await client.send(list(writer.encoded([{"get": "/-/same", "stream": stream}])), None)

    def done() -> bool:
        reader.read(bytes(client.received))
        return client.closed or bool(reader.trouble) or reader.reached(f"end {stream}")

    await client.until(done, 30)
    answer = reader.final.get(stream)
    if answer is None or answer.status != 200 or answer.all("x-saw") != ["GET /-/same"]:
        got = answer.start if answer else reader.rst.get(stream) or reader.goaway or "nothing"
        observed.trouble.append(f"the next stream of the connection got {got}")

"""The control channel: a Unix stream socket between the control process and one worker.

Frames are a 4-byte big-endian length and a JSON object `{kind: body}` with exactly one key; `body` is an object.

To the worker:

    publish  {"revision": ID, "path": DIR}   compile `DIR/config.json` (and what else lies there) and serve by it;
                                             `material`, `keys`: files with certificates and keys, if there are any
    keys     {"path": FILE}                  take the virtual keys in it, whatever else is under way
    drain    {"timeout": SECONDS}            accept no more, finish what is in flight, then exit with code 0
    stop     {}                              exit now
    stats    {}                              answer with `stats`
    adopt    {}                              only first on a new connection to an orphan's own socket

To the control process:

    hello    {"slot", "pid", "revision", "listeners": [NAME…], "shared": PATH}   answer to `adopt`; the listening
                                             sockets ride on this frame, in the order of their names
    ready    {"revision": ID}                first publish done, listening
    applied  {"revision": ID}                a later publish done: new requests are served by it
    refused  {"revision": ID, "error": TEXT} the old revision stays
    keys     {"version": N, "error": TEXT}   the keys of version N are in force; `error`: those told last are not
    stats    {…}                             whatever the worker counts outside shared memory
    drained  {}                              nothing is in flight any more; exiting

A worker is started as

    python -m pygate.worker --slot K --control-fd N --shared PATH --listen NAME=FD …

and lives in the run directory that `PATH` lies in. Closing of the channel is not an order: the worker serves on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import orjson

MAX_FRAME = 1 << 20

Message = dict[str, Any]
OnMessage = Callable[[str, Message], None]
OnClose = Callable[[], None]


class ChannelError(Exception):
    """The other side does not speak this protocol."""


def encode(kind: str, body: Message) -> bytes:
    """One frame."""
    payload = orjson.dumps({kind: body})
    if len(payload) > MAX_FRAME:
        raise ChannelError(f"a {kind} message of {len(payload)} bytes is too long for the control channel")
    return len(payload).to_bytes(4, "big") + payload


class Decoder:
    """Bytes in, messages out, however they are split."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[str, Message]]:
        """The messages completed by `data`; raises `ChannelError` on anything that is not one."""
        self._buffer += data
        found = []
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > MAX_FRAME:
                raise ChannelError(f"a frame of {length} bytes announced")
            if len(self._buffer) < 4 + length:
                break
            payload = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            found.append(decode(payload))
        return found


def decode(payload: bytes) -> tuple[str, Message]:
    """Kind and body of one frame's payload."""
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as e:
        raise ChannelError(f"a frame that is not JSON: {e}") from None
    if not isinstance(message, dict) or len(message) != 1:
        raise ChannelError("a frame without exactly one kind")
    kind, body = next(iter(message.items()))
    return kind, body if isinstance(body, dict) else {}


class Channel(asyncio.Protocol):
    """One end of a control channel inside an event loop. Both ends use it."""

    def __init__(self, on_message: OnMessage, on_close: OnClose) -> None:
        self._on_message = on_message
        self._on_close: OnClose | None = on_close
        self._decoder = Decoder()
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def attach(cls, sock: socket.socket, on_message: OnMessage, on_close: OnClose) -> Channel:
        """Runs a channel over a connected Unix stream socket, which it owns from now on."""
        sock.setblocking(False)
        channel = cls(on_message, on_close)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=sock)
        return channel

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, kind: str, body: Message | None = None) -> None:
        """Queues a message; a closed channel drops it, as the other side is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(kind, body or {}))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._decoder.feed(data)
        except ChannelError:
            self.close()
            return
        for kind, body in messages:
            self._on_message(kind, body)

    def connection_lost(self, exc: Exception | None) -> None:
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

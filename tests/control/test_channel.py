"""Frames of the control channel survive every split and nothing else passes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pygate.control.channel import MAX_FRAME, Channel, ChannelError, Decoder, encode

MESSAGES: list[tuple[str, dict[str, Any]]] = [
    ("publish", {"revision": "0123456789ab", "path": "/run/x"}),
    ("stop", {}),
    ("stats", {"open": 3, "text": "é"}),
]


@given(st.lists(st.integers(1, 40), max_size=40))
def test_every_split_gives_the_same_messages(cuts: list[int]) -> None:
    data = b"".join(encode(kind, body) for kind, body in MESSAGES)
    decoder, found, at = Decoder(), [], 0
    for cut in [*cuts, len(data)]:
        found += decoder.feed(data[at : at + cut])
        at += cut
    assert found == MESSAGES


@pytest.mark.parametrize(
    "data",
    [
        (MAX_FRAME + 1).to_bytes(4, "big"),
        b"\0\0\0\2[]",
        b"\0\0\0\2{}",
        b"\0\0\0\3abc",
        b'\0\0\0\x0d{"a":1,"b":2}',
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ChannelError):
        Decoder().feed(data)


def test_a_peer_that_talks_nonsense_is_cut_off() -> None:
    async def talk() -> list[str]:
        ours, theirs = socket.socketpair()
        events: list[str] = []
        closed = asyncio.Event()
        channel = await Channel.attach(ours, lambda kind, _: events.append(kind), closed.set)
        theirs.sendall(encode("stats", {}))
        while not events:
            await asyncio.sleep(0.01)
        theirs.sendall(bytes([255]) * 4)
        await asyncio.wait_for(closed.wait(), 5)
        assert not channel.open
        channel.send("stop")
        theirs.close()
        return events

    assert asyncio.run(talk()) == ["stats"]

"""What greedy clients do, and what must become of them.

Every attack may cost the gateway `BASE_MB` and `kb` per connection, no more in a second wave than in the first, and
must end as told: `ends` within `within` seconds of a connection's beginning. An end of `held` among `ends` means that
the client is slow, but within its rights; then only memory and the others' times are held against it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.greedy import floods, idle, sizes, slow
from tests.chaos.greedy.link import Target

#: Head, body and handshake deadlines of the gateway under attack.
DEADLINE = 2.0
#: From a deadline to the end that the client sees.
SLACK = 1.5
BASE_MB = 8.0

Run = Callable[[Target, int], Awaitable[None] | None]


@dataclass(frozen=True)
class Attack:
    name: str
    run: Run
    #: Accepted ends.
    ends: frozenset[str]
    #: Entrypoint: `web` or `secure` (TLS).
    entrypoint: str = "web"
    connections: int = 300
    #: User memory of all processes a connection may cost while it lasts.
    kb: float = 32.0
    within: float = DEADLINE + SLACK
    #: Length of a wave.
    seconds: float = DEADLINE + SLACK + 1.0


def _ends(*words: str) -> frozenset[str]:
    return frozenset(words)


_CUT = _ends("cut", "408")
_REFUSED = _ends("431", "400", "414", "cut")
_BIG = _ends("413", "cut")
_BOMB = _ends("413", "415", "503", "cut")
_FLOOD = _ends("goaway", "cut")

#: An idle TLS connection may cost what the design says; what a buffer holds comes on top where bytes are on their way.
_IDLE_KB, _IDLE_TLS_KB, _BUFFERS_KB = 4.0, 32.0, 512.0

ATTACKS = [
    Attack("tls-silence", slow.silence, _CUT, "secure"),
    Attack("tls-handshake-bytewise", slow.handshake, _CUT, "secure"),
    Attack("head-bytewise", slow.head, _CUT),
    Attack("head-bytewise-tls", slow.head, _CUT, "secure", kb=64),
    Attack("body-stops", slow.body, _CUT, kb=64),
    Attack("body-stops-tls", slow.body, _CUT, "secure", kb=96),
    Attack("body-drips", slow.drip, _ends("cut", "408", "504"), kb=64, within=3 + SLACK, seconds=6),
    Attack("answer-unread", slow.stalled, _ends("cut"), connections=100, kb=_BUFFERS_KB, within=60),
    Attack("answer-unread-tls", slow.stalled, _ends("cut"), "secure", 100, kb=_BUFFERS_KB, within=60),
    Attack("answer-trickles", slow.trickle, _ends("held", "cut"), connections=100, kb=_BUFFERS_KB, within=9),
    Attack("idle", idle.hold, _ends("held"), connections=10_000, kb=_IDLE_KB, within=60, seconds=8),
    Attack("idle-tls", idle.hold, _ends("held"), "secure", 10_000, kb=_IDLE_TLS_KB, within=60, seconds=20),
    Attack("line-long", sizes.each(sizes.long_line), _REFUSED, connections=32, kb=128),
    Attack("field-long", sizes.each(sizes.long_field), _REFUSED, connections=32, kb=128),
    Attack("fields-many", sizes.each(sizes.many_fields), _REFUSED, connections=32, kb=128),
    Attack("fields-many-tls", sizes.each(sizes.many_fields), _REFUSED, "secure", 32, kb=160),
    Attack("body-announced", sizes.each(sizes.announced), _BIG, connections=32, kb=128),
    Attack("body-chunked", sizes.each(sizes.chunked), _BIG, connections=32, kb=_BUFFERS_KB),
    Attack("body-tiny-chunks", sizes.each(sizes.tiny_chunks), _BIG, connections=8, kb=_BUFFERS_KB, within=9),
    Attack("body-unread", sizes.each(sizes.unread), _CUT | {"held", "502", "504"}, connections=64, kb=_BUFFERS_KB),
    Attack("bomb-gzip", sizes.zipped("gzip"), _BOMB, connections=8, kb=2048),
    Attack("bomb-gzip-twice", sizes.zipped("gzip, gzip"), _BOMB, connections=8, kb=2048),
    Attack("bomb-deflate", sizes.zipped("deflate"), _BOMB, connections=8, kb=2048),
    Attack("bomb-br", sizes.zipped("br"), _BOMB, connections=8, kb=2048),
    Attack("bomb-zstd", sizes.zipped("zstd"), _BOMB, connections=8, kb=2048),
    Attack("bomb-answered", sizes.each(sizes.answered_bomb), _ends("502", "503", "cut"), connections=8, kb=2048),
    Attack("h2-rapid-reset", floods.flood(floods.rapid_reset), _FLOOD, connections=8, kb=1024),
    Attack("h2-made-you-reset", floods.flood(floods.made_you_reset), _FLOOD, connections=8, kb=1024),
    Attack("h2-continuation", floods.flood(floods.continuation), _FLOOD, connections=8, kb=1024),
    Attack("h2-continuation-empty", floods.flood(floods.empty_continuation), _FLOOD, connections=8, kb=1024),
    Attack("h2-ping", floods.flood(floods.ping), _FLOOD, connections=8, kb=1024),
    Attack("h2-settings", floods.flood(floods.settings), _FLOOD, connections=8, kb=1024),
    Attack("h2-priority", floods.flood(floods.priority), _FLOOD, connections=8, kb=1024),
    Attack("h2-data-empty", floods.flood(floods.empty_data), _FLOOD, connections=8, kb=1024),
    Attack("h2-window-updates", floods.flood(floods.window_updates), _FLOOD, connections=8, kb=1024),
    Attack("h2-hpack-bomb", floods.flood(floods.hpack_bomb), _FLOOD, connections=8, kb=1024),
    Attack("h2-no-window", floods.no_window, _FLOOD, connections=8, kb=8192, within=7, seconds=8),
]
BY_NAME = {attack.name: attack for attack in ATTACKS}

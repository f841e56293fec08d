"""Many clients at once, each on a connection of its own, that speak the dialects' plain bytes.

They say what they got, and leave where their call says so: `Asked` is a call to be made, `Got` what became of it. Every
call has its number in `user-agent`, which the gateway records and passes on, so that the same call can be found in the
audit log and in the provider's ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

AGENT = "accounting/"
DIALECTS = ("openai", "responses", "anthropic", "gemini")
MODELS = ("fast", "claude", "gemini", "nova")
WORDS = "gateways count every token which passes through them whatever becomes of the call".split()
#: A system prompt that providers cache.
LONG = " ".join(f"{WORDS[at % len(WORDS)]}" for at in range(1400))
TIMEOUT = 60.0


@dataclass(frozen=True)
class Asked:
    number: int
    key: int
    """Which of the keys."""
    dialect: str
    model: str
    stream: bool
    system: str
    words: int
    """The model is asked to count so far."""
    limit: int
    """Of output tokens."""
    leave_after: int | None = None
    """The client leaves after that many pieces of the text; 0: before the answer begins."""
    rudely: bool = False
    """It leaves with a reset."""

    @property
    def text(self) -> str:
        return f"count to {self.words}"

    @property
    def answer(self) -> list[str]:
        """The pieces a provider sends, a token each."""
        most = min(self.words, self.limit)
        return [f"{at} " if at < self.words else f"{at}" for at in range(1, most + 1)]


@dataclass
class Got:
    status: int = 0
    """0: nothing was answered."""
    text: str = ""
    refused: str = ""
    """The error of the gateway or provider."""
    complete: bool = False
    """The answer ended as its dialect ends."""
    left: bool = False


def plan(count: int, keys: int, leaving: float, seed: int) -> list[Asked]:
    """The same calls for the same seed."""
    chance = random.Random(seed)
    calls = []
    for number in range(count):
        dialect = chance.choice(DIALECTS)
        stream = chance.random() < 0.6
        system = LONG if chance.random() < 0.01 else " ".join(chance.choices(WORDS, k=chance.randint(2, 20)))
        words = chance.randint(20, 40)
        limit = chance.choice((64, 64, 64, 10))
        leaves = chance.random() < leaving
        if leaves:
            stream, limit = stream or chance.random() < 0.9, 64
        after = chance.randint(1, words - 10) if leaves and stream else 0 if leaves else None
        model = chance.choice(MODELS)
        rudely = chance.random() < 0.5
        if not leaves and chance.random() < 0.05:
            dialect, model, stream, limit = "embeddings", "embed", False, 0
        calls.append(Asked(number, chance.randrange(keys), dialect, model, stream, system, words, limit, after, rudely))
    return calls


def request(asked: Asked, key: str) -> bytes:
    path, value = _PATHS[asked.dialect](asked), _BODIES[asked.dialect](asked)
    body = orjson.dumps(value)
    name = {"anthropic": "x-api-key: ", "gemini": "x-goog-api-key: "}.get(asked.dialect, "authorization: Bearer ")
    return (
        f"POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        f"user-agent: {AGENT}{asked.number}\r\n{name}{key}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


def _gemini_path(asked: Asked) -> str:
    verb = "streamGenerateContent?alt=sse" if asked.stream else "generateContent"
    return f"/v1beta/models/{asked.model}:{verb}"


_PATHS: dict[str, Callable[[Asked], str]] = {
    "openai": lambda asked: "/v1/chat/completions",
    "responses": lambda asked: "/v1/responses",
    "anthropic": lambda asked: "/v1/messages",
    "gemini": _gemini_path,
    "embeddings": lambda asked: "/v1/embeddings",
}


def _user(asked: Asked) -> dict[str, str]:
    return {"role": "user", "content": asked.text}


_BODIES: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "openai": lambda asked: {
        "model": asked.model,
        "messages": [{"role": "system", "content": asked.system}, _user(asked)],
        "max_completion_tokens": asked.limit,
        "stream": asked.stream,
    },
    "responses": lambda asked: {
        "model": asked.model,
        "instructions": asked.system,
        "input": [_user(asked)],
        # OpenAI wants at least 16.
        "max_output_tokens": max(16, asked.limit),
        "stream": asked.stream,
        "store": False,
    },
    "anthropic": lambda asked: {
        "model": asked.model,
        "system": [{"type": "text", "text": asked.system, "cache_control": {"type": "ephemeral"}}],
        "messages": [_user(asked)],
        "max_tokens": asked.limit,
        "stream": asked.stream,
    },
    "gemini": lambda asked: {
        "systemInstruction": {"parts": [{"text": asked.system}]},
        "contents": [{"role": "user", "parts": [{"text": asked.text}]}],
        "generationConfig": {"maxOutputTokens": asked.limit},
    },
    "embeddings": lambda asked: {"model": asked.model, "input": asked.system},
}


def _piece(dialect: str, event: Any) -> str:
    """Text that an event of a stream brings."""
    match dialect:
        case "openai":
            choices = event.get("choices") or [{}]
            return str(choices[0].get("delta", {}).get("content") or "")
        case "responses":
            return str(event["delta"]) if event.get("type") == "response.output_text.delta" else ""
        case "anthropic":
            return str(event["delta"].get("text", "")) if event.get("type") == "content_block_delta" else ""
    parts = (event.get("candidates") or [{}])[0].get("content", {}).get("parts") or []
    return "".join(part.get("text", "") for part in parts)


def _ends(dialect: str, event: Any) -> bool:
    """The event that says that this was all."""
    match dialect:
        case "responses":
            return event.get("type") in ("response.completed", "response.incomplete")
        case "anthropic":
            return bool(event.get("type") == "message_stop")
        case "gemini":
            return "finishReason" in (event.get("candidates") or [{}])[0]
    return False


class Line:
    """One client's connection, opened again when it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, asked: Asked, key: str) -> Got:
        got = Got()
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write(request(asked, key))
                await self._answer(asked, got, reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            got.refused = got.refused or type(error).__name__
            self.close()
        if got.left:
            self.close(asked.rudely)
        return got

    async def _answer(self, asked: Asked, got: Got, reader: asyncio.StreamReader) -> None:
        if asked.leave_after == 0:
            await asyncio.sleep(0.003)
            got.left = True
            return
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        got.status = int(head[9:12])
        pieces = _chunks(reader) if b"transfer-encoding: chunked" in head else _exactly(reader, head)
        if got.status == 200 and asked.stream:
            await self._events(asked, got, pieces)
            return
        body = b"".join([piece async for piece in pieces])
        if got.status != 200:
            got.refused = body.decode(errors="replace")
        got.complete = got.status == 200

    async def _events(self, asked: Asked, got: Got, pieces: AsyncIterator[bytes]) -> None:
        told = 0
        async for data in _data(pieces):
            if data == b"[DONE]":
                got.complete = True
                continue
            event = orjson.loads(data)
            if "error" in event or event.get("type") in ("error", "response.failed"):
                got.refused = data.decode()
                continue
            got.complete |= _ends(asked.dialect, event)
            text = _piece(asked.dialect, event)
            got.text += text
            told += bool(text)
            if asked.leave_after is not None and told >= asked.leave_after:
                got.left = True
                return

    def close(self, rudely: bool = False) -> None:
        if self._streams is None:
            return
        transport = self._streams[1].transport
        self._streams = None
        with contextlib.suppress(OSError):
            transport.abort() if rudely else transport.close()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readline(), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readline()


async def _data(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each event of a stream. A byte order mark is passed over."""
    held, data = b"", []
    async for piece in pieces:
        *lines, held = (held + piece).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r").removeprefix(b"\xef\xbb\xbf")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []


async def _exactly(reader: asyncio.StreamReader, head: bytes) -> AsyncIterator[bytes]:
    yield await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0))


async def run(port: int, calls: Iterable[Asked], keys: list[str], at_once: int, done: Callable[[], None]) -> list[Got]:
    """All calls, so many at once; in the order of their numbers."""
    waiting = iter(calls)
    found: dict[int, Got] = {}

    async def client() -> None:
        line = Line(port)
        try:
            for asked in waiting:
                found[asked.number] = await line.call(asked, keys[asked.key])
                done()
        finally:
            line.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(client())
    return [found[number] for number in sorted(found)]

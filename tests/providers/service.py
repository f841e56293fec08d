"""One request from its arrival to its entry in the ledger: control, provider, key, fault, answer, delivery.

The order is that of real providers: an unknown path and a wrong key are refused before any fault is tried.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime

from tests.providers import control, render, sigv4, websocket
from tests.providers.catalogue import PROVIDERS, check_key, key_of, limit_headers
from tests.providers.faults import Effects, Faults
from tests.providers.ledger import Entry, Ledger
from tests.providers.memory import Memory
from tests.providers.operations import Run, find
from tests.providers.realtime import Session
from tests.providers.server import Connection
from tests.providers.tokens import Tokens
from tests.providers.wire import Answer, Call, Headers, Quirks, Refused, Request, Streamed, Usage, Whole, refusal

NEVER = 3600.0


class Service:
    def __init__(self, token_life: int = 3600) -> None:
        self.faults = Faults()
        self.ledger = Ledger()
        self.memory = Memory()
        self.tokens = Tokens(token_life)
        self.calls = 0
        self.used = 0
        """Tokens, for the rate limit headers."""

    async def __call__(self, request: Request, connection: Connection) -> None:
        base = f"http://{request.header('host') or 'localhost'}"
        if request.path.startswith("/__"):
            connection.whole(control.handle(self, request, base))
            return
        name, _, rest = request.raw_path[1:].partition("/")
        if name not in PROVIDERS:
            known = ", ".join(sorted(PROVIDERS))
            connection.whole(Whole.json({"error": f"no provider /{name}; there are {known}"}, status=404))
            return
        if name == "vertex" and rest == "token":
            connection.whole(self.tokens.exchange(request, base))
            return
        self.calls += 1
        call = Call(PROVIDERS[name], request, "", "", "", self.calls, self.memory, base=base, now=int(time.time()))
        entry = Entry(self.calls, name, connection=connection.number, target=request.target)
        entry.agent = request.header("user-agent") or ""
        call.key = entry.key = key_of(call.provider, call)
        self.ledger.begin(entry, request.headers, request.body)
        try:
            await self._answer(call, entry, "/" + rest, connection)
        finally:
            entry.gone = connection.gone and not entry.finished and not entry.cut
            entry.ended_ms = entry.ms()

    async def _answer(self, call: Call, entry: Entry, path: str, connection: Connection) -> None:
        provider = call.provider
        effects = Effects()
        try:
            self._check(call)
            operation = find(call, path)
            entry.operation, entry.model, entry.stream = call.operation, call.model, operation.stream(call)
            effects = self.faults.of(provider.name, call.model, call.key, call.operation, entry.stream)
            call.quirks = Quirks(effects.usage or "normal", effects.done is not False)
            if effects.delay_head or effects.hang:
                await asyncio.sleep(NEVER if effects.hang else (effects.delay_head or 0) / 1000)
            if effects.drop:
                entry.cut = True
                connection.abort()
                return
            if effects.status is not None:
                raise refusal(effects.status, effects.message)
            if call.model and not provider.knows(call.model):
                raise Refused(
                    404, "not_found", f"the model '{call.model}' does not exist, or not for this key", "model"
                )
            if call.operation == "realtime" and websocket.wanted(call.request):
                entry.first_ms = entry.ms()
                await Session(call, entry, effects, connection, self._headers(call)).run()
                return
            answer = _run(operation.run, call)
        except Refused as refused:
            answer = self._refuse(call, refused, effects)
            effects = Effects(write=effects.write)
        entry.first_ms = entry.ms()
        if isinstance(answer, Whole):
            await self._whole(call, entry, answer, effects, connection)
        else:
            entry.status, entry.usage = 200, answer.usage
            await self._stream(call, entry, answer, effects, connection)
        self.used += entry.sent.input + entry.sent.output

    def _check(self, call: Call) -> None:
        if call.provider.auth == "sigv4":
            sigv4.check(call)
        elif call.provider.auth == "token":
            self.tokens.check(call)
        elif call.provider.auth == "azure" and (call.request.bearer or "").startswith("ya29."):
            self.tokens.check(call)
        else:
            check_key(call.provider, call)

    def _refuse(self, call: Call, refused: Refused, effects: Effects) -> Whole:
        made = call.provider.shape(refused, call.id("req_"), call.model)
        if effects.body is not None:
            made = replace(made, body=effects.body.encode())
        made.headers = _merged(self._headers(call) + made.headers, effects.headers)
        return made

    def _headers(self, call: Call) -> Headers:
        soon = datetime.fromtimestamp(call.now + 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        headers: Headers = [(call.provider.request_id, call.id("req_"))]
        if call.provider.name == "openai":
            headers += [("openai-processing-ms", "1"), ("openai-version", "2020-10-01")]
        return headers + limit_headers(call.provider, self.calls, self.used, soon)

    async def _whole(self, call: Call, entry: Entry, answer: Whole, effects: Effects, connection: Connection) -> None:
        entry.status = answer.status
        if answer.status < 400:
            entry.usage = answer.usage or Usage()
            answer.headers = _merged(self._headers(call) + answer.headers, effects.headers)
        if effects.malformed is not None:
            answer = replace(answer, body=answer.body[: len(answer.body) * 2 // 3])
        entry.cut = effects.cut_bytes is not None and effects.cut_bytes < len(answer.body)
        most = effects.cut_bytes if entry.cut else None
        size = effects.write
        if size:
            connection.whole(answer, 0)
            body = answer.body[:most]
            for at in range(0, len(body), size):
                connection.transport.write(body[at : at + size])
                await asyncio.sleep(0)
                await connection.drain()
        else:
            connection.whole(answer, most)
            await connection.drain()
        entry.sent = replace(entry.usage)
        if entry.cut:
            _cut(connection, effects)
        entry.finished = not entry.cut and not connection.gone

    async def _stream(
        self, call: Call, entry: Entry, answer: Streamed, effects: Effects, connection: Connection
    ) -> None:
        kind = ("content-type", render.KINDS[answer.framing])
        connection.head(200, _merged([kind, *self._headers(call), *answer.headers], effects.headers))
        delivery = Delivery(connection, entry, effects)
        entry.sent = replace(answer.usage, output=0, reasoning=0)
        if effects.error_after == 0:
            await delivery.fail(answer)
            return
        for event, octets in render.octets(answer, effects):
            if event.kind == "delta":
                if entry.deltas == effects.cut_deltas:
                    await delivery.cut()
                    return
                await delivery.wait()
            elif event.kind == "end" and effects.done is False:
                continue
            if await delivery.write(octets):
                return
            if event.kind == "delta":
                entry.deltas += 1
                entry.sent.output += event.tokens
                entry.sent.reasoning = min(answer.usage.reasoning, entry.sent.output)
                if entry.deltas == effects.error_after:
                    await delivery.fail(answer)
                    return
        await delivery.flush()
        entry.sent = replace(answer.usage)
        entry.finished = True
        connection.end()


class Delivery:
    """Writes a stream's body. Octets that no fault holds apart leave together."""

    def __init__(self, connection: Connection, entry: Entry, effects: Effects) -> None:
        self.connection, self.entry, self.effects = connection, entry, effects
        self.held = bytearray()
        self.written = 0

    async def wait(self) -> None:
        """Before a delta."""
        delay = self.effects.delay_delta if self.entry.deltas else self.effects.delay_first
        if delay:
            await self.flush()
            await asyncio.sleep(delay / 1000)

    async def write(self, octets: bytes) -> bool:
        """Whether the stream was cut in it."""
        most = self.effects.cut_bytes
        if most is not None and self.written + len(octets) > most:
            self.held += octets[: most - self.written]
            await self.cut()
            return True
        self.written += len(octets)
        self.held += octets
        if self.effects.delay_delta or self.effects.delay_first or len(self.held) > 16384:
            await self.flush()
        return False

    async def flush(self) -> None:
        held, self.held = bytes(self.held), bytearray()
        if size := self.effects.write:
            for at in range(0, len(held), size):
                self.connection.chunk(held[at : at + size])
                await asyncio.sleep(0)
                await self.connection.drain()
        else:
            self.connection.chunk(held)
            await self.connection.drain()
        if self.connection.gone:
            raise asyncio.CancelledError

    async def cut(self) -> None:
        await self.flush()
        self.entry.cut = True
        _cut(self.connection, self.effects)

    async def fail(self, answer: Streamed) -> None:
        status = self.effects.error_status or 500
        message = self.effects.message or "simulated failure in the stream"
        error = replace(answer, events=answer.error(status, message))
        for _, octets in render.octets(error, replace(self.effects, malformed=None, bom=None)):
            self.held += octets
        await self.flush()
        self.entry.cut = True
        self.connection.end()


def _run(run: Run, call: Call) -> Answer:
    """What a dialect trips over is a malformed request."""
    try:
        return run(call)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise Refused(400, "invalid", f"malformed request: {type(error).__name__}: {error}") from error


def _cut(connection: Connection, effects: Effects) -> None:
    if effects.cut_by == "reset":
        connection.abort()
    elif effects.cut_by == "clean" and effects.cut_deltas is not None:
        connection.end()
    else:
        connection.close()


def _merged(headers: Headers, more: dict[str, str] | None) -> Headers:
    if not more:
        return headers
    names = {name.lower() for name in more}
    return [pair for pair in headers if pair[0].lower() not in names] + list(more.items())

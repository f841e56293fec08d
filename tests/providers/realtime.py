"""OpenAI's Realtime API over WebSocket, in text: a session, items, responses with their usage.

Faults that hold: `delay_first`, `delay_delta`, `cut_deltas` (the connection ends within a response), and those of the
handshake: `status`, `delay_head`, `hang`, `drop`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from tests.providers.answers import Prompt, Reply, Turn, answer
from tests.providers.faults import Effects
from tests.providers.ledger import Entry
from tests.providers.server import Connection
from tests.providers.websocket import WebSocket
from tests.providers.wire import Answer, Call, Headers, Refused, Usage


def refuse(call: Call) -> Answer:
    """Of a request that asks for no WebSocket."""
    raise Refused(400, "invalid", "this endpoint is a WebSocket: an upgrade is needed")


class Session:
    def __init__(self, call: Call, entry: Entry, effects: Effects, connection: Connection, headers: Headers) -> None:
        self.call, self.entry, self.effects, self.connection = call, entry, effects, connection
        self.prompt = Prompt([], cache="automatic")
        self.socket = WebSocket(call.request, connection, headers)
        self.events = 0
        self.told: dict[str, Any] = {"type": "realtime", "object": "realtime.session", "id": call.id("sess_")}
        self.told |= {"model": call.model, "output_modalities": ["text"], "instructions": ""}

    async def run(self) -> None:
        """To the end of the connection."""
        self.entry.status = 101
        await self.say("session.created", session=self.told)
        while (text := await self.socket.receive()) is not None:
            try:
                event = orjson.loads(text)
                kind = event["type"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                await self.fail("invalid_event", "the event is not an object with a type")
                continue
            if kind == "session.update":
                self.told |= event.get("session") or {}
                self.prompt.system = str(self.told.get("instructions") or "")
                await self.say("session.updated", session=self.told)
            elif kind == "conversation.item.create":
                await self.item(event.get("item") or {})
            elif kind == "response.create":
                if not await self.respond():
                    return
            else:
                await self.fail("unknown_event", f"{kind} is not known here")
        self.entry.finished = True
        self.connection.close()

    async def say(self, kind: str, **members: Any) -> None:
        self.events += 1
        told = {"type": kind, "event_id": f"event_{self.call.number}_{self.events}", **members}
        await self.socket.send(orjson.dumps(told).decode())

    async def fail(self, code: str, message: str) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": None}
        await self.say("error", error=error)

    async def item(self, item: dict[str, Any]) -> None:
        texts = [part.get("text") or part.get("transcript") or "" for part in item.get("content") or []]
        role = item.get("role")
        if role == "system":
            self.prompt.system = "\n".join([*filter(None, [self.prompt.system]), *texts])
        else:
            self.prompt.turns.append(Turn("assistant" if role == "assistant" else "user", "\n".join(texts)))
        told = {
            "id": f"item_{self.call.number}_{self.events}",
            "object": "realtime.item",
            "status": "completed",
            **item,
        }
        await self.say("conversation.item.added", previous_item_id=None, item=told)
        await self.say("conversation.item.done", previous_item_id=None, item=told)

    async def respond(self) -> bool:
        """False: a fault has ended the connection."""
        reply = answer(self.prompt, self.call.memory, f"{self.call.provider.name}/{self.call.key}")
        text = "".join(reply.text)
        self.prompt.turns.append(Turn("assistant", text))
        _add(self.entry.usage, reply.usage)
        _add(self.entry.sent, Usage(reply.usage.input, 0, reply.usage.cached_read))
        id, item_id = f"resp_{self.call.number}_{self.events}", f"item_{self.call.number}_{self.events}"
        at = {"response_id": id, "item_id": item_id, "output_index": 0, "content_index": 0}
        item = {"id": item_id, "object": "realtime.item", "type": "message", "role": "assistant", "content": []}
        response: dict[str, Any] = {
            "id": id,
            "object": "realtime.response",
            "status": "in_progress",
            "output": [],
            "usage": None,
        }
        await self.say("response.created", response=response)
        await self.say("response.output_item.added", response_id=id, output_index=0, item=item)
        await self.say("response.content_part.added", **at, part={"type": "text", "text": ""})
        for number, piece in enumerate(reply.text):
            if self.entry.deltas == self.effects.cut_deltas:
                self.entry.cut = True
                (self.connection.abort if self.effects.cut_by == "reset" else self.connection.close)()
                return False
            if delay := (self.effects.delay_delta if number else self.effects.delay_first):
                await asyncio.sleep(delay / 1000)
            await self.say("response.output_text.delta", **at, delta=piece)
            self.entry.deltas += 1
            self.entry.sent.output += 1
        await self.say("response.output_text.done", **at, text=text)
        part = {"type": "output_text", "text": text}
        await self.say("response.content_part.done", **at, part={"type": "text", "text": text})
        done = item | {"status": "completed", "content": [part]}
        await self.say("response.output_item.done", response_id=id, output_index=0, item=done)
        await self.say("response.done", response=response | {"status": "completed", "output": [done]} | _usage(reply))
        return True


def _add(total: Usage, more: Usage) -> None:
    total.input += more.input
    total.output += more.output
    total.cached_read += more.cached_read


def _usage(reply: Reply) -> dict[str, Any]:
    found = reply.usage
    details = {"text_tokens": found.input, "audio_tokens": 0, "cached_tokens": found.cached_read}
    told = {
        "total_tokens": found.input + found.output,
        "input_tokens": found.input,
        "output_tokens": found.output,
        "input_token_details": details,
        "output_token_details": {"text_tokens": found.output, "audio_tokens": 0},
    }
    return {"usage": told}

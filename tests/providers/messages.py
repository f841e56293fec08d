"""Anthropic Messages, with counting and models; the same under Vertex, where model and version stand elsewhere.

Strict where the API is: `max_tokens` and the version are wanted, every `tool_use` is answered in the next turn, text is
not empty, thinking blocks that come back carry the signature they left with.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from tests.providers.answers import Prompt, Reply, Turn, answer, input_tokens
from tests.providers.chat import octets
from tests.providers.errors import anthropic_error
from tests.providers.wire import Answer, Call, Event, Refused, Streamed, Usage, Whole, refusal

FINISH = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use", "refused": "refusal"}


def signature(text: str) -> str:
    """What proves that a thinking block came from here."""
    return "sig-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def create(call: Call) -> Answer:
    _version(call)
    if not isinstance(limit := call.body.get("max_tokens"), int) or limit < 1:
        raise Refused(400, "invalid", "max_tokens: Field required" if limit is None else "max_tokens: at least 1")
    prompt = read(call.body)
    reply = answer(prompt, call.memory, f"{call.provider.name}/{call.key}")
    most = call.provider.context(call.model)
    if reply.usage.input > most:
        raise Refused(400, "context", f"prompt is too long: {reply.usage.input} tokens > {most} maximum")
    if call.body.get("stream") is True or call.request.raw_path.endswith(":streamRawPredict"):
        return _streamed(call, reply)
    told = _message(call, reply, _blocks(call, reply)) | _finish(reply)
    if call.quirks.usage != "omit":
        told["usage"] = _usage(reply.usage)
    return Whole.json(told, reply.usage)


def _version(call: Call) -> None:
    if call.provider.name == "vertex":
        if not isinstance(call.body.get("anthropic_version"), str):
            raise Refused(400, "invalid", "anthropic_version: Field required")
    elif call.request.header("anthropic-version") is None:
        raise Refused(400, "invalid", "anthropic-version: header is required")


def count(call: Call) -> Answer:
    _version(call)
    return Whole.json({"input_tokens": input_tokens(read(call.body))}, Usage())


def models(call: Call) -> Answer:
    found = [_model(name) for name in call.provider.models]
    told = {"data": found, "has_more": False, "first_id": found[0]["id"], "last_id": found[-1]["id"]}
    return Whole.json(told, Usage())


def model(call: Call) -> Answer:
    return Whole.json(_model(call.parameters["model"]), Usage())


def _model(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}


# ---- what was asked --------------------------------------------------------------------------------------------------


def read(body: dict[str, Any]) -> Prompt:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "invalid", "messages: at least one message is required")
    prompt = Prompt([], cache="marked")
    prompt.system, prompt.system_marked = _system(body.get("system"))
    for at, message in enumerate(messages):
        _turns(prompt, message, f"messages.{at}")
    if _pending(messages):
        raise Refused(400, "invalid", "messages: `tool_use` ids were found without `tool_result` blocks after them")
    for tool in body.get("tools") or []:
        if "input_schema" in tool or tool.get("type") in (None, "custom"):
            if not isinstance(tool.get("name"), str) or not isinstance(tool.get("input_schema"), dict):
                raise Refused(400, "invalid", "tools: a tool needs a name and an input_schema")
            prompt.tools[tool["name"]] = tool["input_schema"]
            prompt.system_marked |= "cache_control" in tool
    choice = body.get("tool_choice") or {}
    kinds = {"auto": "auto", "any": "required", "none": "none", "tool": f"={choice.get('name')}"}
    prompt.choice = kinds[choice.get("type", "auto")]
    prompt.parallel = choice.get("disable_parallel_tool_use") is not True
    form = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    prompt.schema = form.get("schema") if form.get("type") == "json_schema" else None
    prompt.reasoning = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    prompt.limit = body.get("max_tokens")
    prompt.stop = body.get("stop_sequences") or []
    return prompt


def _system(given: Any) -> tuple[str, bool]:
    if isinstance(given, list):
        return "\n".join(block["text"] for block in given), any("cache_control" in block for block in given)
    return given or "", False


def _pending(messages: list[Any]) -> bool:
    """Whether a call is not answered by the turn after it."""
    for before, after in zip(messages, [*messages[1:], None], strict=True):
        if not isinstance(before.get("content"), list):
            continue
        asked = {block["id"] for block in before["content"] if block.get("type") == "tool_use"}
        content = after.get("content") if after else []
        given = {
            block.get("tool_use_id") for block in content if isinstance(block, dict) and block["type"] == "tool_result"
        }
        if asked - given:
            return True
    return False


def _turns(prompt: Prompt, message: Any, where: str) -> None:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("user", "assistant"):
        raise Refused(400, "invalid", f'{where}.role: expected "user" or "assistant", got {role!r}')
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise Refused(400, "invalid", f"{where}.content: a text or blocks are required")
    turn, results = Turn(role), Turn("tool")
    texts: list[str] = []
    for block in content:
        turn.marked |= "cache_control" in block
        kind = block.get("type")
        if kind == "text":
            if not block.get("text"):
                raise Refused(400, "invalid", f"{where}: text content blocks must be non-empty")
            texts.append(block["text"])
        elif kind in ("image", "document"):
            turn.attached.append(_attached(kind, block["source"]))
        elif kind == "tool_use":
            turn.calls.append(block["name"])
        elif kind == "tool_result":
            results.text += ("\n" if results.text else "") + _result(block)
        elif kind == "thinking":
            if block.get("signature") != signature(block["thinking"]):
                raise Refused(400, "invalid", f"{where}: Invalid `signature` in `thinking` block")
        elif kind != "redacted_thinking":
            raise Refused(400, "invalid", f"{where}: a block of type {kind!r}")
    turn.text = "\n".join(texts)
    if results.text or any(block.get("type") == "tool_result" for block in content):
        prompt.turns.append(results)
        if not (turn.text or turn.attached):
            results.marked = turn.marked
            return
    prompt.turns.append(turn)


def _attached(kind: str, source: dict[str, Any]) -> str:
    if source["type"] == "base64":
        return f"{kind} {source['media_type']} {octets(source['data'])}"
    if source["type"] == "text":
        return f"{kind} {source['media_type']} {len(source['data'].encode())}"
    return f"{kind} {source['type']}"


def _result(block: dict[str, Any]) -> str:
    content = block.get("content")
    if isinstance(content, list):
        content = "\n".join(part.get("text", f"[{part.get('type')}]") for part in content)
    return ("error: " if block.get("is_error") else "") + (content or "")


# ---- what is answered ------------------------------------------------------------------------------------------------


def _usage(found: Usage) -> dict[str, Any]:
    """Input is told without what the cache took."""
    return {
        "input_tokens": found.input - found.cached_read - found.cached_write,
        "cache_creation_input_tokens": found.cached_write,
        "cache_read_input_tokens": found.cached_read,
        "cache_creation": {"ephemeral_5m_input_tokens": found.cached_write, "ephemeral_1h_input_tokens": 0},
        "output_tokens": found.output,
        "output_tokens_details": {"thinking_tokens": found.reasoning},
        "service_tier": "standard",
    }


def _blocks(call: Call, reply: Reply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if reply.reasoning:
        thought = "".join(reply.reasoning)
        blocks.append({"type": "thinking", "thinking": thought, "signature": signature(thought)})
    if reply.text:
        blocks.append({"type": "text", "text": "".join(reply.text)})
    for at, spoken in enumerate(reply.calls):
        called = {"id": call.id(f"toolu_{at}_"), "name": spoken.name, "input": orjson.loads(spoken.arguments)}
        blocks.append({"type": "tool_use", **called})
    return blocks


def _message(call: Call, reply: Reply, content: list[dict[str, Any]]) -> dict[str, Any]:
    head = {"id": call.id("msg_"), "type": "message", "role": "assistant", "model": call.model}
    return head | {"content": content, "stop_reason": None, "stop_sequence": None}


def _finish(reply: Reply) -> dict[str, Any]:
    reason = "stop_sequence" if reply.stopped_by else FINISH[reply.finish]
    return {"stop_reason": reason, "stop_sequence": reply.stopped_by}


def _streamed(call: Call, reply: Reply) -> Streamed:
    begun = _message(call, reply, [])
    omit, repeat = call.quirks.usage == "omit", call.quirks.usage == "repeat"
    if not omit:
        begun["usage"] = _usage(Usage(reply.usage.input, 1, reply.usage.cached_read, reply.usage.cached_write))
    events = [_event("message_start", "start", message=begun), _event("ping", "start")]
    sent = 0
    for index, block in enumerate(_blocks(call, reply)):
        kind = block["type"]
        at = {"index": index}
        if kind == "thinking":
            events.append(_event("content_block_start", **at, content_block=block | {"thinking": "", "signature": ""}))
            deltas = [({"type": "thinking_delta", "thinking": piece}, 1) for piece in reply.reasoning]
            deltas.append(({"type": "signature_delta", "signature": block["signature"]}, 0))
        elif kind == "text":
            events.append(_event("content_block_start", **at, content_block=block | {"text": ""}))
            deltas = [({"type": "text_delta", "text": piece}, 1) for piece in reply.text]
        else:
            spoken = next(one for place, one in enumerate(reply.calls) if block["id"] == call.id(f"toolu_{place}_"))
            events.append(_event("content_block_start", **at, content_block=block | {"input": {}}))
            deltas = [({"type": "input_json_delta", "partial_json": ""}, 1)]
            deltas += [({"type": "input_json_delta", "partial_json": piece}, 1) for piece in spoken.pieces]
        for delta, tokens in deltas:
            sent += tokens
            events.append(_event("content_block_delta", "delta" if tokens else "other", tokens, **at, delta=delta))
            if repeat and tokens:
                running = {"stop_reason": None, "stop_sequence": None}
                events.append(_event("message_delta", delta=running, usage={"output_tokens": sent}))
        events.append(_event("content_block_stop", **at))
    finish = _event("message_delta", delta=_finish(reply))
    if not omit:
        finish.data["usage"] = _usage(reply.usage)
    events += [finish, _event("message_stop", "end")]
    return Streamed(events, reply.usage, _error)


def _event(name: str, kind: Any = "other", tokens: int = 0, **members: Any) -> Event:
    return Event({"type": name, **members}, kind, name, tokens)


def _error(status: int, message: str) -> list[Event]:
    return [_event("error", "end", error=anthropic_error(refusal(status, message)))]

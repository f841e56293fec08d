"""OpenAI Responses: created, continued by `previous_response_id`, fetched, deleted, counted.

A response is kept unless `store` is false; what it continues is read again with its own input and output.
"""

from __future__ import annotations

from typing import Any

from tests.providers.answers import Prompt, Reply, Turn, answer, input_tokens
from tests.providers.chat import attachment, check_context, octets, read_choice
from tests.providers.wire import Answer, Call, Event, Refused, Streamed, Usage, Whole


def create(call: Call) -> Answer:
    prompt = _read(call)
    reply = answer(prompt, call.memory, f"{call.provider.name}/{call.key}")
    check_context(call, reply)
    id = call.id("resp_")
    items = _items(call, reply)
    done = _response(call, id, "incomplete" if reply.finish == "length" else "completed", items, reply)
    if call.body.get("store") is not False:
        call.memory.responses.put(call.key, id, (done, [*_history(call), *_listed(call.body.get("input"))]))
    if call.body.get("stream") is True:
        return _streamed(call, id, items, reply, done)
    return Whole.json(done, reply.usage)


def count(call: Call) -> Answer:
    prompt = _read(call)
    return Whole.json({"object": "response.input_tokens", "input_tokens": input_tokens(prompt)}, Usage())


def retrieve(call: Call) -> Answer:
    found = call.memory.responses.get(call.key, call.parameters["id"])
    if found is None:
        raise _no_response(call.parameters["id"], None)
    return Whole.json(found[0], Usage())


def delete(call: Call) -> Answer:
    id = call.parameters["id"]
    if call.memory.responses.take(call.key, id) is None:
        raise _no_response(id, None)
    return Whole.json({"id": id, "object": "response.deleted", "deleted": True}, Usage())


def _no_response(id: str, param: str | None) -> Refused:
    status, code = (400, "previous_response_not_found") if param else (404, None)
    return Refused(status, "invalid", f"Response with id '{id}' not found.", param, code)


# ---- what was asked --------------------------------------------------------------------------------------------------


def _listed(given: Any) -> list[Any]:
    return [{"role": "user", "content": given}] if isinstance(given, str) else list(given or [])


def _history(call: Call) -> list[Any]:
    previous = call.body.get("previous_response_id")
    if previous is None:
        return []
    found = call.memory.responses.get(call.key, str(previous))
    if found is None:
        raise _no_response(str(previous), "previous_response_id")
    done, given = found
    return [*given, *done["output"]]


def _read(call: Call) -> Prompt:
    body = call.body
    if not isinstance(body.get("input"), (str, list)):
        raise Refused(400, "invalid", "input must be a text or a list of items", "input")
    prompt = Prompt([], system=body.get("instructions") or "", cache="automatic")
    for at, item in enumerate([*_history(call), *_listed(body["input"])]):
        _item(prompt, item, f"input[{at}]")
    for tool in body.get("tools") or []:
        if tool.get("type") == "function":
            prompt.tools[tool["name"]] = tool.get("parameters")
    prompt.choice = read_choice(body.get("tool_choice"))
    prompt.parallel = body.get("parallel_tool_calls") is not False
    form = (body.get("text") or {}).get("format") or {}
    prompt.schema = form.get("schema") if form.get("type") == "json_schema" else None
    prompt.json = form.get("type") == "json_object"
    prompt.reasoning = (body.get("reasoning") or {}).get("effort") not in (None, "none")
    prompt.limit = body.get("max_output_tokens")
    return prompt


def _item(prompt: Prompt, item: Any, where: str) -> None:
    if not isinstance(item, dict):
        raise Refused(400, "invalid", f"{where} must be an object", where)
    kind = item.get("type", "message")
    if kind == "message":
        turn = Turn("assistant" if item.get("role") == "assistant" else "user")
        content = item.get("content")
        if isinstance(content, str):
            turn.text = content
        else:
            turn.text = "\n".join(text for part in content or [] if (text := _part(turn, part, where)) is not None)
        if item.get("role") in ("system", "developer"):
            prompt.system = "\n".join(filter(None, (prompt.system, turn.text)))
        else:
            prompt.turns.append(turn)
    elif kind == "function_call":
        if prompt.turns and prompt.turns[-1].role == "assistant":
            prompt.turns[-1].calls.append(item["name"])
        else:
            prompt.turns.append(Turn("assistant", calls=[item["name"]]))
    elif kind == "function_call_output":
        output = item.get("output")
        text = output if isinstance(output, str) else "\n".join(part.get("text", "") for part in output or [])
        last = prompt.turns[-1] if prompt.turns else None
        if last is None or not (last.calls or last.role == "tool"):
            message = f"No tool call found for function call output with call_id {item.get('call_id')}."
            raise Refused(400, "invalid", message, "input")
        if last.role == "tool":
            last.text += f"\n{text}"
        else:
            prompt.turns.append(Turn("tool", text))
    elif kind not in ("reasoning", "item_reference"):
        raise Refused(400, "invalid", f"{where}: an item of type {kind!r}", where)


def _part(turn: Turn, part: Any, where: str) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text", "text"):
        return str(part["text"])
    if kind == "refusal":
        return str(part["refusal"])
    if kind == "input_image":
        turn.attached.append(attachment("image", part.get("image_url") or ""))
    elif kind == "input_file":
        turn.attached.append(attachment("document", part.get("file_data") or part.get("file_url") or ""))
    elif kind == "input_audio":
        audio = part["input_audio"]
        turn.attached.append(f"audio audio/{audio['format']} {octets(audio['data'])}")
    else:
        raise Refused(400, "invalid", f"{where}: a part of type {kind!r}", where)
    return None


# ---- what is answered ------------------------------------------------------------------------------------------------


def _usage(found: Usage) -> dict[str, Any]:
    return {
        "input_tokens": found.input,
        "input_tokens_details": {"cached_tokens": found.cached_read, "cache_write_tokens": 0},
        "output_tokens": found.output,
        "output_tokens_details": {"reasoning_tokens": found.reasoning},
        "total_tokens": found.input + found.output,
    }


def _items(call: Call, reply: Reply) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    status = "incomplete" if reply.finish == "length" else "completed"
    if reply.reasoning:
        reasoning = call.body.get("reasoning") or {}
        told = [{"type": "summary_text", "text": "".join(reply.reasoning)}] if reasoning.get("summary") else []
        item = {"id": call.id("rs_"), "type": "reasoning", "summary": told}
        if "reasoning.encrypted_content" in (call.body.get("include") or []):
            item["encrypted_content"] = f"encrypted-{call.number}"
        items.append(item)
    text = "".join(reply.text)
    if reply.finish == "refused":
        part: dict[str, Any] = {"type": "refusal", "refusal": text}
    else:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    if reply.text or not reply.calls:
        message = {"id": call.id("msg_"), "type": "message", "role": "assistant", "status": status, "content": [part]}
        items.append(message)
    for at, spoken in enumerate(reply.calls):
        items.append(
            {
                "id": call.id(f"fc_{at}_"),
                "type": "function_call",
                "status": "completed",
                "call_id": call.id(f"call_{at}_"),
                "name": spoken.name,
                "arguments": spoken.arguments,
            }
        )
    return items


def _response(call: Call, id: str, status: str, items: list[dict[str, Any]], reply: Reply) -> dict[str, Any]:
    body = call.body
    told = {
        "id": id,
        "object": "response",
        "created_at": call.now,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": call.model,
        "output": items,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store") is not False,
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": body.get("metadata") or {},
    }
    if status != "in_progress" and call.quirks.usage != "omit":
        told["usage"] = _usage(reply.usage)
    return told


def _streamed(call: Call, id: str, items: list[dict[str, Any]], reply: Reply, done: dict[str, Any]) -> Streamed:
    events: list[Event] = []

    def say(event: str, sort: Any = "other", tokens: int = 0, **members: Any) -> None:
        data = {"type": event, "sequence_number": len(events), **members}
        events.append(Event(data, sort, event, tokens))

    begun = _response(call, id, "in_progress", [], reply)
    say("response.created", "start", response=begun)
    say("response.in_progress", "start", response=begun)
    hidden = len(reply.reasoning)
    for index, item in enumerate(items):
        at = {"item_id": item["id"], "output_index": index}
        kind = item["type"]
        if kind == "reasoning":
            say("response.output_item.added", output_index=index, item=item | {"summary": []})
            if item["summary"]:
                hidden = 0
                _summary(say, at, reply)
            say("response.output_item.done", output_index=index, item=item)
        elif kind == "message":
            say("response.output_item.added", output_index=index, item=item | {"content": [], "status": "in_progress"})
            hidden = _text(say, at, item["content"][0], reply, hidden)
            say("response.output_item.done", output_index=index, item=item)
        else:
            spoken = next(found for found in reply.calls if item["call_id"] == _call_id(call, reply, found))
            added = item | {"arguments": "", "status": "in_progress"}
            say("response.output_item.added", "delta", 1 + hidden, output_index=index, item=added)
            hidden = 0
            for piece in spoken.pieces:
                say("response.function_call_arguments.delta", "delta", 1, **at, delta=piece)
            finished: dict[str, Any] = {"arguments": spoken.arguments, "name": spoken.name}
            say("response.function_call_arguments.done", **at, **finished)
            say("response.output_item.done", output_index=index, item=item)
    last = f"response.{done['status']}"
    events.append(Event({"type": last, "sequence_number": len(events), "response": done}, "end", last))
    return Streamed(events, reply.usage, lambda status, message: _error(call, id, begun, status, message))


def _call_id(call: Call, reply: Reply, spoken: Any) -> str:
    return call.id(f"call_{next(at for at, found in enumerate(reply.calls) if found is spoken)}_")


def _summary(say: Any, at: dict[str, Any], reply: Reply) -> None:
    part = {"type": "summary_text", "text": ""}
    text = "".join(reply.reasoning)
    say("response.reasoning_summary_part.added", **at, summary_index=0, part=part)
    for piece in reply.reasoning:
        say("response.reasoning_summary_text.delta", "delta", 1, **at, summary_index=0, delta=piece)
    say("response.reasoning_summary_text.done", **at, summary_index=0, text=text)
    say("response.reasoning_summary_part.done", **at, summary_index=0, part=part | {"text": text})


def _text(say: Any, at: dict[str, Any], part: dict[str, Any], reply: Reply, hidden: int) -> int:
    """The deltas of a message; hidden reasoning is counted with the first. Returns what is still not counted."""
    text = "".join(reply.text)
    refused = part["type"] == "refusal"
    empty = part | {("refusal" if refused else "text"): ""}
    say("response.content_part.added", **at, content_index=0, part=empty)
    name = "response.refusal" if refused else "response.output_text"
    more: dict[str, Any] = {} if refused else {"logprobs": []}
    for piece in reply.text:
        say(f"{name}.delta", "delta", 1 + hidden, **at, content_index=0, delta=piece, **more)
        hidden = 0
    say(f"{name}.done", **at, content_index=0, **({"refusal": text} if refused else {"text": text, **more}))
    say("response.content_part.done", **at, content_index=0, part=part)
    return hidden


def _error(call: Call, id: str, begun: dict[str, Any], status: int, message: str) -> list[Event]:
    code = "rate_limit_exceeded" if status == 429 else "server_error"
    failed = begun | {"status": "failed", "error": {"code": code, "message": message}}
    data = {"type": "response.failed", "sequence_number": 1_000_000, "response": failed}
    error = {"type": "error", "sequence_number": 999_999, "code": code, "message": message, "param": None}
    return [Event(error, "other", "error"), Event(data, "end", "response.failed")]

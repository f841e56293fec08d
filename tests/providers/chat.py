"""OpenAI Chat Completions, and what calls itself compatible: `Quirk` says how the others differ."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Literal

from tests.providers.answers import Prompt, Reply, Turn, answer
from tests.providers.catalogue import Quirk
from tests.providers.errors import openai_error
from tests.providers.wire import Answer, Call, Event, Refused, Streamed, Usage, Whole, refusal

FINISH = {"stop": "stop", "length": "length", "tools": "tool_calls", "refused": "stop"}


def complete(call: Call) -> Answer:
    body = call.body
    prompt = read(body)
    if prompt.limit is not None and prompt.limit < 1:
        raise Refused(400, "invalid", "max tokens must be at least 1", "max_completion_tokens")
    reply = answer(prompt, call.memory, f"{call.provider.name}/{call.key}")
    check_context(call, reply)
    if body.get("stream") is True:
        return _streamed(call, reply)
    choices = [_choice(call, reply, at) for at in range(_count(body))]
    told: dict[str, Any] = {
        "id": call.id("chatcmpl-"),
        "object": "chat.completion",
        "created": call.now,
        "model": call.model,
        "choices": choices,
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
    }
    reply.usage.output *= len(choices)
    reply.usage.reasoning *= len(choices)
    if call.quirks.usage != "omit":
        told["usage"] = usage(reply.usage, call.provider.quirk)
    if call.provider.quirk.filters:
        told["prompt_filter_results"] = [_filtered(0)]
    return Whole.json(told, reply.usage)


def check_context(call: Call, reply: Reply) -> None:
    most = call.provider.context(call.model)
    if reply.usage.input > most:
        message = f"This model's maximum context length is {most} tokens, but the messages have {reply.usage.input}."
        raise Refused(400, "context", message, "messages")


def _count(body: dict[str, Any]) -> int:
    count = body.get("n") or 1
    if not isinstance(count, int) or not 1 <= count <= 8:
        raise Refused(400, "invalid", "n must be from 1 to 8", "n")
    return count


# ---- what was asked --------------------------------------------------------------------------------------------------


def read(body: dict[str, Any]) -> Prompt:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "invalid", "messages must be a list that is not empty", "messages")
    prompt = Prompt([], cache="automatic")
    for at, message in enumerate(messages):
        _message(prompt, message, f"messages[{at}]")
    for tool in body.get("tools") or []:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Refused(400, "invalid", "a tool needs a function with a name", "tools")
        prompt.tools[function["name"]] = function.get("parameters")
    prompt.choice = read_choice(body.get("tool_choice"))
    prompt.parallel = body.get("parallel_tool_calls") is not False
    form: dict[str, Any] = body.get("response_format") or {}
    prompt.json = form.get("type") == "json_object"
    if form.get("type") == "json_schema":
        prompt.schema = form.get("json_schema", {}).get("schema")
        if prompt.schema is None:
            raise Refused(400, "invalid", "json_schema needs a schema", "response_format.json_schema.schema")
    prompt.reasoning = bool(
        body.get("reasoning_effort") not in (None, "none")
        or body.get("reasoning")
        or body.get("thinking", {}).get("type") == "enabled"
    )
    prompt.limit = body.get("max_completion_tokens") or body.get("max_tokens")
    stop = body.get("stop")
    prompt.stop = [stop] if isinstance(stop, str) else stop or []
    return prompt


def read_choice(choice: Any) -> str:
    if isinstance(choice, dict):
        named: dict[str, Any] = choice.get("function") or choice
        return f"={named.get('name')}"
    return {"any": "required"}.get(choice, choice) if isinstance(choice, str) else "auto"


def _message(prompt: Prompt, message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise Refused(400, "invalid", f"{where} must be an object", where)
    role = message.get("role")
    turn = Turn("user")
    content = message.get("content")
    if isinstance(content, str):
        turn.text = content
    elif isinstance(content, list):
        turn.text = "\n".join(text for part in content if (text := _part(turn, part, where)) is not None)
    elif content is not None or role not in ("assistant", "function"):
        raise Refused(400, "invalid", f"{where}.content must be a text or a list of parts", f"{where}.content")
    if role in ("system", "developer"):
        prompt.system = "\n".join(filter(None, (prompt.system, turn.text)))
        return
    if role == "assistant":
        turn.role = "assistant"
        turn.calls = [call["function"]["name"] for call in message.get("tool_calls") or []]
        prompt.turns.append(turn)
        return
    if role == "tool":
        if not isinstance(message.get("tool_call_id"), str):
            raise Refused(400, "invalid", f"{where} needs the id of its call", f"{where}.tool_call_id")
        last = prompt.turns[-1] if prompt.turns else None
        if last is None or not (last.calls or last.role == "tool"):
            raise Refused(400, "invalid", f"{where} answers no tool call before it", where)
        if last.role == "tool":
            last.text += f"\n{turn.text}"
            return
        turn.role = "tool"
    elif role != "user":
        raise Refused(400, "invalid", f"{where}.role is unknown", f"{where}.role")
    prompt.turns.append(turn)


def _part(turn: Turn, part: Any, where: str) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return str(part["text"])
    if kind == "refusal":
        return str(part["refusal"])
    if kind == "image_url":
        turn.attached.append(attachment("image", part["image_url"]["url"]))
    elif kind == "input_audio":
        size = octets(part["input_audio"]["data"])
        turn.attached.append(f"audio audio/{part['input_audio']['format']} {size}")
    elif kind == "file":
        turn.attached.append(attachment("document", part["file"].get("file_data") or part["file"].get("file_id") or ""))
    else:
        raise Refused(400, "invalid", f"{where}: a part of type {kind!r}", where)
    return None


def attachment(sort: str, url: str) -> str:
    """Of a data URL its type and size, of others that it is one."""
    if not url.startswith("data:"):
        return f"{sort} url"
    head, _, data = url[5:].partition(",")
    return f"{sort} {head.partition(';')[0]} {octets(data)}"


def octets(data: str) -> int:
    """Decoded length. Raises the refusal for what is no base64."""
    try:
        return len(base64.b64decode(data, validate=True))
    except ValueError:
        raise Refused(400, "invalid", "an attachment is not base64") from None


# ---- what is answered ------------------------------------------------------------------------------------------------


def usage(found: Usage, quirk: Quirk) -> dict[str, Any]:
    output = found.output - found.reasoning if quirk.outside else found.output
    told: dict[str, Any] = {
        "prompt_tokens": found.input,
        "completion_tokens": output,
        "total_tokens": found.input + found.output,
        "prompt_tokens_details": {"cached_tokens": found.cached_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": found.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    if quirk.hit_miss:
        told["prompt_cache_hit_tokens"] = found.cached_read
        told["prompt_cache_miss_tokens"] = found.input - found.cached_read
    return told


def _calls(call: Call, reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id(f"call_{at}_"),
            "type": "function",
            "function": {"name": spoken.name, "arguments": spoken.arguments},
        }
        for at, spoken in enumerate(reply.calls)
    ]


def _choice(call: Call, reply: Reply, index: int) -> dict[str, Any]:
    text = "".join(reply.text)
    refused = reply.finish == "refused"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if reply.calls or refused else text,
        "refusal": text if refused else None,
        "annotations": [],
    }
    if reply.calls:
        message["tool_calls"] = _calls(call, reply)
    if reply.reasoning and call.provider.quirk.reasoning:
        message[call.provider.quirk.reasoning] = "".join(reply.reasoning)
    choice = {"index": index, "message": message, "logprobs": None, "finish_reason": FINISH[reply.finish]}
    if call.body.get("logprobs"):
        choice["logprobs"] = {"content": [_logprob(piece, call.body) for piece in reply.text], "refusal": None}
    if call.provider.quirk.filters:
        choice["content_filter_results"] = _filtered(0)["content_filter_results"]
    return choice


def _logprob(piece: str, body: dict[str, Any]) -> dict[str, Any]:
    told = {"token": piece, "logprob": -0.25, "bytes": list(piece.encode())}
    return told | {"top_logprobs": [dict(told) for _ in range(min(body.get("top_logprobs") or 0, 1))]}


def _filtered(index: int) -> dict[str, Any]:
    kinds = ("hate", "self_harm", "sexual", "violence")
    results = {kind: {"filtered": False, "severity": "safe"} for kind in kinds}
    return {"prompt_index": index, "content_filter_results": results}


def _streamed(call: Call, reply: Reply) -> Streamed:
    quirk = call.provider.quirk
    asked = (call.body.get("stream_options") or {}).get("include_usage") is True and quirk.usage == "asked"
    omit, repeat = call.quirks.usage == "omit", call.quirks.usage == "repeat"
    choices = _count(call.body)
    reply.usage.output *= choices
    reply.usage.reasoning *= choices
    sent = 0

    def envelope(choices: list[dict[str, Any]]) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": call.id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": call.now,
            "model": call.model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
            "choices": choices,
        }
        if repeat:
            told["usage"] = usage(Usage(reply.usage.input, sent, reply.usage.cached_read), quirk)
        elif asked:
            told["usage"] = None
        return told

    events: list[Event] = []
    if quirk.comments:
        events.append(Event(quirk.comments, "start", ":"))
    if quirk.filters:
        first = envelope([]) | {"id": "", "model": "", "object": "", "prompt_filter_results": [_filtered(0)]}
        events.append(Event(first, "start"))
    last: dict[str, Any] = {}
    for index in range(choices):
        for kind, tokens, delta, finish, logprobs in _deltas(call, reply):
            sent += tokens
            last = envelope([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}])
            events.append(Event(last, kind, tokens=tokens))
    counted = usage(reply.usage, quirk)
    if quirk.usage == "last" and not omit:
        last["usage"] = counted
    if quirk.twice and not omit:
        last["x_groq"] = {"id": call.id("req_"), "usage": counted}
    if asked and not omit:
        events += [Event(envelope([]) | {"usage": counted}, "other")] * (2 if repeat else 1)
    events.append(Event("[DONE]", "end"))
    return Streamed(events, reply.usage, lambda status, message: _error(call, status, message))


_Delta = tuple[Literal["start", "delta", "other"], int, dict[str, Any], str | None, Any]


def _deltas(call: Call, reply: Reply) -> Iterator[_Delta]:
    """Of one choice: sort, tokens, delta, finish reason, logprobs. Hidden reasoning counts with what follows."""
    quirk = call.provider.quirk
    hidden = 0 if quirk.reasoning else len(reply.reasoning)
    yield "start", 0, {"role": "assistant", "content": None if reply.calls else "", "refusal": None}, None, None
    if quirk.reasoning:
        for piece in reply.reasoning:
            yield "delta", 1, {quirk.reasoning: piece}, None, None
    for piece in reply.text:
        logprobs = {"content": [_logprob(piece, call.body)], "refusal": None} if call.body.get("logprobs") else None
        delta = {"refusal" if reply.finish == "refused" else "content": piece}
        yield "delta", 1 + hidden, delta, None, logprobs
        hidden = 0
    for at, told in enumerate(_calls(call, reply)):
        spoken = reply.calls[at]
        if quirk.whole_calls:
            yield "delta", spoken.tokens + hidden, {"tool_calls": [{"index": at, **told}]}, None, None
        else:
            begun = {"index": at, **told, "function": {"name": spoken.name, "arguments": ""}}
            yield "delta", 1 + hidden, {"tool_calls": [begun]}, None, None
            for piece in spoken.pieces:
                yield "delta", 1, {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}, None, None
        hidden = 0
    yield "other", hidden, {}, FINISH[reply.finish], None


def _error(call: Call, status: int, message: str) -> list[Event]:
    refused = refusal(status, message)
    if call.provider.name == "openrouter":
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        broken = {"code": status, "message": message}
        return [Event({"id": call.id("gen-"), "object": "chat.completion.chunk", "error": broken, "choices": [choice]})]
    return [Event({"error": openai_error(refused)})]

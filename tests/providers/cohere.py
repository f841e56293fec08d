"""Cohere v2: chat whole and streamed, rerank, embed, models."""

from __future__ import annotations

import uuid
from typing import Any

from tests.providers.answers import Prompt, Reply, Turn, answer, words
from tests.providers.chat import attachment, check_context
from tests.providers.media import vector
from tests.providers.wire import Answer, Call, Event, Refused, Streamed, Usage, Whole

FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tools": "TOOL_CALL", "refused": "COMPLETE"}


def chat(call: Call) -> Answer:
    reply = answer(_read(call.body), call.memory, f"cohere/{call.key}")
    check_context(call, reply)
    if call.body.get("stream") is True:
        return _streamed(call, reply)
    message: dict[str, Any] = {"role": "assistant"}
    if reply.calls:
        message["tool_plan"] = ""
        message["tool_calls"] = _calls(call, reply)
    else:
        content: list[dict[str, str]] = [{"type": "text", "text": "".join(reply.text)}]
        if reply.reasoning:
            content.insert(0, {"type": "thinking", "thinking": "".join(reply.reasoning)})
        message["content"] = content
    told: dict[str, Any] = {"id": _id(call), "finish_reason": _reason(reply), "message": message}
    if call.quirks.usage != "omit":
        told["usage"] = _usage(reply.usage)
    return Whole.json(told, reply.usage)


def rerank(call: Call) -> Answer:
    """A document's score is the share of the query's words in it."""
    query, documents = call.body.get("query"), call.body.get("documents")
    if not isinstance(query, str) or not isinstance(documents, list) or not documents:
        raise Refused(400, "invalid", "query and documents are needed")
    wanted = set(query.lower().split())
    texts = [text if isinstance(text, str) else str(text.get("text", "")) for text in documents]
    scored = [(len(wanted & set(text.lower().split())) / (len(wanted) or 1), at) for at, text in enumerate(texts)]
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    most = call.body.get("top_n") or len(scored)
    results = [{"index": at, "relevance_score": round(score, 6)} for score, at in scored[:most]]
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    tokens = words(query) + sum(map(words, texts))
    return Whole.json({"id": _id(call), "results": results, "meta": meta}, Usage(input=tokens))


def embed(call: Call) -> Answer:
    texts = call.body.get("texts") or []
    if not texts:
        raise Refused(400, "invalid", "texts are needed")
    tokens = sum(map(words, texts))
    size = call.body.get("output_dimension") or 16
    told: dict[str, Any] = {
        "id": _id(call),
        "response_type": "embeddings_by_type",
        "embeddings": {"float": [vector(text, size) for text in texts]},
        "texts": texts,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}},
    }
    return Whole.json(told, Usage(input=tokens))


def models(call: Call) -> Answer:
    found = [
        {"name": name, "endpoints": [name.partition("-")[0].replace("command", "chat")], "context_length": 256_000}
        for name in call.provider.models
    ]
    return Whole.json({"models": found}, Usage())


def _read(body: dict[str, Any]) -> Prompt:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "invalid", "invalid request: messages must not be empty")
    prompt = Prompt([])
    for message in messages:
        role, content = message.get("role"), message.get("content")
        turn = Turn("assistant" if role == "assistant" else "user")
        if isinstance(content, str):
            turn.text = content
        else:
            turn.text = "\n".join(text for part in content or [] if (text := _part(turn, part)) is not None)
        if role == "system":
            prompt.system = "\n".join(filter(None, (prompt.system, turn.text)))
        elif role == "tool":
            if prompt.turns and prompt.turns[-1].role == "tool":
                prompt.turns[-1].text += f"\n{turn.text}"
            else:
                prompt.turns.append(Turn("tool", turn.text))
        elif role in ("user", "assistant"):
            turn.calls = [called["function"]["name"] for called in message.get("tool_calls") or []]
            prompt.turns.append(turn)
        else:
            raise Refused(400, "invalid", f"invalid request: role {role!r}")
    prompt.tools = {tool["function"]["name"]: tool["function"].get("parameters") for tool in body.get("tools") or []}
    prompt.choice = {"REQUIRED": "required", "NONE": "none"}.get(body.get("tool_choice") or "", "auto")
    form = body.get("response_format") or {}
    if form.get("type") == "json_object":
        prompt.schema = form.get("json_schema") or form.get("schema")
        prompt.json = prompt.schema is None
    prompt.reasoning = (body.get("thinking") or {}).get("type") == "enabled"
    prompt.limit = body.get("max_tokens")
    prompt.stop = body.get("stop_sequences") or []
    return prompt


def _part(turn: Turn, part: dict[str, Any]) -> str | None:
    if part.get("type") == "image_url":
        turn.attached.append(attachment("image", part["image_url"]["url"]))
        return None
    if part.get("type") == "document":
        return str(part["document"].get("data"))
    return None if part.get("type") == "thinking" else str(part["text"])


def _id(call: Call) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, call.id("")))


def _reason(reply: Reply) -> str:
    return "STOP_SEQUENCE" if reply.stopped_by else FINISH[reply.finish]


def _usage(found: Usage) -> dict[str, Any]:
    counts = {"input_tokens": found.input, "output_tokens": found.output}
    return {"billed_units": counts, "tokens": counts, "cached_tokens": found.cached_read}


def _calls(call: Call, reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{spoken.name}_{call.number}_{at}",
            "type": "function",
            "function": {"name": spoken.name, "arguments": spoken.arguments},
        }
        for at, spoken in enumerate(reply.calls)
    ]


def _streamed(call: Call, reply: Reply) -> Streamed:
    events: list[Event] = []

    def say(name: str, kind: Any = "other", tokens: int = 0, index: int | None = None, **message: Any) -> None:
        data: dict[str, Any] = {"type": name}
        if index is not None:
            data["index"] = index
        if message:
            data["delta"] = {"message": message}
        events.append(Event(data, kind, name, tokens))

    begun = {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}
    events.append(Event({"id": _id(call), "type": "message-start", "delta": begun}, "start", "message-start"))
    index = 0
    for kind, pieces in (("thinking", reply.reasoning), ("text", reply.text)):
        if not pieces:
            continue
        say("content-start", index=index, content={"type": kind, kind: ""})
        for piece in pieces:
            say("content-delta", "delta", 1, index, content={kind: piece})
        say("content-end", index=index)
        index += 1
    for at, (told, spoken) in enumerate(zip(_calls(call, reply), reply.calls, strict=True)):
        begun_call = told | {"function": {"name": spoken.name, "arguments": ""}}
        say("tool-call-start", "delta", 1, at, tool_calls=begun_call)
        for piece in spoken.pieces:
            say("tool-call-delta", "delta", 1, at, tool_calls={"function": {"arguments": piece}})
        say("tool-call-end", index=at)
    ended: dict[str, Any] = {"finish_reason": _reason(reply)}
    if call.quirks.usage != "omit":
        ended["usage"] = _usage(reply.usage)
    events.append(Event({"type": "message-end", "delta": ended}, "end", "message-end"))
    return Streamed(events, reply.usage, _error)


def _error(status: int, message: str) -> list[Event]:
    ended = {"finish_reason": "ERROR", "error": message}
    return [Event({"type": "message-end", "delta": ended}, "end", "message-end")]

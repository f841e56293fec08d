"""Gemini: `generateContent`, streamed as server-sent events or as a JSON array, `countTokens`, embeddings, models.

A stream tells usage in every event, of what was said so far. Function calls are never streamed in pieces. A call made
while thinking carries a `thoughtSignature`; one that comes back must be right. Members are read in camel case and in
snake case, as the API does.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from tests.providers.answers import Prompt, Reply, Turn, answer, input_tokens, words
from tests.providers.chat import octets
from tests.providers.errors import google_error
from tests.providers.media import vector
from tests.providers.messages import signature
from tests.providers.wire import Answer, Call, Event, Refused, Streamed, Usage, Whole, refusal

FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tools": "STOP", "refused": "SAFETY"}


def generate(call: Call) -> Answer:
    reply = _reply(call)
    told = _envelope(call, [_candidate(_parts(call, reply), reply)])
    if call.quirks.usage != "omit":
        told["usageMetadata"] = _usage(reply.usage)
    return Whole.json(told, reply.usage)


def stream(call: Call) -> Answer:
    reply = _reply(call)
    events: list[Event] = []
    sent = Usage(reply.usage.input, 0, reply.usage.cached_read)
    hidden = len(reply.reasoning) if not _thoughts(call) else 0
    omit = call.quirks.usage == "omit"
    pieces: list[tuple[dict[str, Any], int, int]] = []
    if not hidden:
        pieces += [({"text": piece, "thought": True}, 1, 1) for piece in reply.reasoning]
    pieces += [({"text": piece}, 1, 0) for piece in reply.text]
    pieces += [(part, spoken.tokens, 0) for part, spoken in zip(_call_parts(call, reply), reply.calls, strict=True)]
    for part, tokens, reasoning in pieces or [({"text": ""}, 0, 0)]:
        sent.output += tokens + hidden
        sent.reasoning += reasoning + hidden
        chunk = _envelope(call, [_candidate([part], None)])
        if not omit:
            chunk["usageMetadata"] = _usage(sent)
        events.append(Event(chunk, "delta", tokens=tokens + hidden))
        hidden = 0
    last = _envelope(call, [_candidate([{"text": ""}], reply)])
    if not omit:
        last["usageMetadata"] = _usage(reply.usage)
    if call.quirks.usage == "repeat":
        events.append(Event(last, "other"))
    events.append(Event(last, "end"))
    sse = call.request.query.get("alt") == "sse"
    return Streamed(events, reply.usage, _error, "sse" if sse else "array")


def count(call: Call) -> Answer:
    body = call.body.get("generateContentRequest") or call.body
    total = input_tokens(read(body))
    details = [{"modality": "TEXT", "tokenCount": total}]
    return Whole.json({"totalTokens": total, "promptTokensDetails": details}, Usage())


def embed(call: Call) -> Answer:
    text = _content_text(call.body.get("content") or {})
    size = _member(call.body, "outputDimensionality") or 16
    return Whole.json({"embedding": {"values": vector(text, size)}}, Usage(input=words(text)))


def embed_batch(call: Call) -> Answer:
    found, tokens = [], 0
    for request in call.body.get("requests") or []:
        text = _content_text(request.get("content") or {})
        tokens += words(text)
        found.append({"values": vector(text, _member(request, "outputDimensionality") or 16)})
    return Whole.json({"embeddings": found}, Usage(input=tokens))


def predict(call: Call) -> Answer:
    """Vertex's way to embed."""
    found, total = [], 0
    size = (call.body.get("parameters") or {}).get("outputDimensionality") or 16
    for instance in call.body.get("instances") or []:
        tokens = words(instance["content"])
        total += tokens
        statistics = {"token_count": tokens, "truncated": False}
        found.append({"embeddings": {"values": vector(instance["content"], size), "statistics": statistics}})
    return Whole.json({"predictions": found}, Usage(input=total))


def models(call: Call) -> Answer:
    return Whole.json({"models": [_model(name) for name in call.provider.models]}, Usage())


def model(call: Call) -> Answer:
    return Whole.json(_model(call.parameters["model"]), Usage())


def _model(name: str) -> dict[str, Any]:
    methods = ["embedContent"] if "embedding" in name else ["generateContent", "countTokens"]
    limits = {"inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}
    return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods, **limits}


# ---- what was asked --------------------------------------------------------------------------------------------------


def _member(value: dict[str, Any], name: str) -> Any:
    """A member by its camel or snake case name."""
    if name in value:
        return value[name]
    return value.get(re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name))


def _reply(call: Call) -> Reply:
    prompt = read(call.body)
    reply = answer(prompt, call.memory, f"{call.provider.name}/{call.key}")
    most = call.provider.context(call.model)
    if reply.usage.input > most:
        message = f"The input token count ({reply.usage.input}) exceeds the maximum number of tokens allowed ({most})."
        raise Refused(400, "context", message)
    return reply


def _thoughts(call: Call) -> bool:
    config = _member(call.body, "generationConfig") or {}
    return _member(_member(config, "thinkingConfig") or {}, "includeThoughts") is True


def read(body: dict[str, Any]) -> Prompt:
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise Refused(400, "invalid", "* GenerateContentRequest.contents: contents is not specified")
    prompt = Prompt([], cache="automatic")
    prompt.system = _content_text(_member(body, "systemInstruction") or {})
    for content in contents:
        _turns(prompt, content)
    for tool in body.get("tools") or []:
        for declared in _member(tool, "functionDeclarations") or []:
            schema = _member(declared, "parametersJsonSchema") or declared.get("parameters")
            prompt.tools[declared["name"]] = schema
    calling = _member(_member(body, "toolConfig") or {}, "functionCallingConfig") or {}
    mode = {"ANY": "required", "NONE": "none"}.get(str(calling.get("mode", "AUTO")).upper(), "auto")
    allowed = _member(calling, "allowedFunctionNames") or []
    prompt.choice = f"={allowed[0]}" if mode == "required" and len(allowed) == 1 else mode
    config = _member(body, "generationConfig") or {}
    schema = _member(config, "responseJsonSchema") or _member(config, "responseSchema")
    if _member(config, "responseMimeType") == "application/json":
        prompt.schema, prompt.json = schema, schema is None
    thinking = _member(config, "thinkingConfig") or {}
    budget = _member(thinking, "thinkingBudget")
    prompt.reasoning = bool(thinking) and budget != 0
    prompt.limit = _member(config, "maxOutputTokens")
    prompt.stop = _member(config, "stopSequences") or []
    return prompt


def _content_text(content: dict[str, Any]) -> str:
    return "\n".join(part["text"] for part in content.get("parts") or [] if "text" in part)


def _turns(prompt: Prompt, content: Any) -> None:
    role = content.get("role", "user")
    if role not in ("user", "model", "function"):
        raise Refused(400, "invalid", "Please use a valid role: user, model.")
    turn, results = Turn("assistant" if role == "model" else "user"), []
    texts = []
    for part in content.get("parts") or []:
        called, answered = _member(part, "functionCall"), _member(part, "functionResponse")
        inline, file = _member(part, "inlineData"), _member(part, "fileData")
        if called is not None:
            turn.calls.append(called["name"])
            proof = _member(part, "thoughtSignature")
            # What Google documents for calls in a history that no Gemini made.
            if proof not in (None, _proof(called["name"]), "skip_thought_signature_validator"):
                raise Refused(400, "invalid", "Thought signature is not valid")
        elif answered is not None:
            results.append(_result(answered.get("response") or {}))
        elif inline is not None:
            kind = _member(inline, "mimeType")
            turn.attached.append(f"{_sort(kind)} {kind} {octets(_standard(inline['data']))}")
        elif file is not None:
            turn.attached.append(f"{_sort(_member(file, 'mimeType') or '')} url")
        elif "text" in part:
            if not part.get("thought"):
                texts.append(part["text"])
        else:
            raise Refused(400, "invalid", "a part of a content is of no known sort")
    turn.text = "\n".join(texts)
    if results:
        prompt.turns.append(Turn("tool", "\n".join(results)))
        if not (turn.text or turn.attached):
            return
    prompt.turns.append(turn)


def _standard(data: str) -> str:
    """Base64 of the URL alphabet is read, too; the official client sends it."""
    return data.replace("-", "+").replace("_", "/") + "=" * (-len(data) % 4)


def _sort(kind: str) -> str:
    sort = kind.partition("/")[0]
    return sort if sort in ("image", "audio", "video") else "document"


def _result(response: dict[str, Any]) -> str:
    """The text in it if there is only that."""
    if len(response) == 1 and isinstance(value := next(iter(response.values())), str):
        return ("error: " if "error" in response else "") + value
    return orjson.dumps(response).decode()


# ---- what is answered ------------------------------------------------------------------------------------------------


def _proof(name: str) -> str:
    """Base64, as the API's signatures are."""
    return signature(name).removeprefix("sig-")


def _usage(found: Usage) -> dict[str, Any]:
    told = {
        "promptTokenCount": found.input,
        "candidatesTokenCount": found.output - found.reasoning,
        "totalTokenCount": found.input + found.output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": found.input}],
    }
    if found.cached_read:
        told["cachedContentTokenCount"] = found.cached_read
    if found.reasoning:
        told["thoughtsTokenCount"] = found.reasoning
    return told


def _call_parts(call: Call, reply: Reply) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for spoken in reply.calls:
        part: dict[str, Any] = {"functionCall": {"name": spoken.name, "args": orjson.loads(spoken.arguments)}}
        if reply.reasoning and not parts:
            part["thoughtSignature"] = _proof(spoken.name)
        parts.append(part)
    return parts


def _parts(call: Call, reply: Reply) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if reply.reasoning and _thoughts(call):
        parts.append({"text": "".join(reply.reasoning), "thought": True})
    if reply.text:
        parts.append({"text": "".join(reply.text)})
    return parts + _call_parts(call, reply)


def _candidate(parts: list[dict[str, Any]], reply: Reply | None) -> dict[str, Any]:
    told: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if reply is not None:
        told["finishReason"] = FINISH[reply.finish]
    return told


def _envelope(call: Call, candidates: list[dict[str, Any]]) -> dict[str, Any]:
    return {"candidates": candidates, "modelVersion": call.model, "responseId": call.id("resp-")}


def _error(status: int, message: str) -> list[Event]:
    return [Event({"error": google_error(refusal(status, message))}, "end")]

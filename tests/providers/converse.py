"""Amazon Bedrock: Converse and ConverseStream, CountTokens, InvokeModel for Titan embeddings, the list of models."""

from __future__ import annotations

from typing import Any

import orjson

from tests.providers.answers import Prompt, Reply, Turn, answer, input_tokens, words
from tests.providers.chat import octets
from tests.providers.errors import amazon_type
from tests.providers.media import vector
from tests.providers.messages import signature
from tests.providers.wire import Answer, Call, Event, Refused, Streamed, Usage, Whole, refusal

FINISH = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use", "refused": "content_filtered"}


def converse(call: Call) -> Answer:
    reply = _reply(call)
    told: dict[str, Any] = {
        "output": {"message": {"role": "assistant", "content": _blocks(call, reply)}},
        "stopReason": _reason(reply),
        "metrics": {"latencyMs": 1},
    }
    if call.quirks.usage != "omit":
        told["usage"] = _usage(reply.usage)
    return Whole.json(told, reply.usage)


def stream(call: Call) -> Answer:
    reply = _reply(call)
    events = [Event({"role": "assistant", **_padding()}, "start", "messageStart")]
    sent = 0
    for index, block in enumerate(_blocks(call, reply)):
        at = {"contentBlockIndex": index}
        if "toolUse" in block:
            used = block["toolUse"]
            spoken = next(one for place, one in enumerate(reply.calls) if used["toolUseId"] == _id(call, place))
            start = {"toolUse": {"toolUseId": used["toolUseId"], "name": used["name"]}}
            events.append(Event({"start": start, **at, **_padding()}, "delta", "contentBlockStart", 1))
            deltas: list[tuple[dict[str, Any], int]] = [({"toolUse": {"input": piece}}, 1) for piece in spoken.pieces]
        elif "text" in block:
            deltas = [({"text": piece}, 1) for piece in reply.text]
        else:
            deltas = [({"reasoningContent": {"text": piece}}, 1) for piece in reply.reasoning]
            proof = block["reasoningContent"]["reasoningText"]["signature"]
            deltas.append(({"reasoningContent": {"signature": proof}}, 0))
        for delta, tokens in deltas:
            sent += tokens
            told = {"delta": delta, **at, **_padding()}
            events.append(Event(told, "delta" if tokens else "other", "contentBlockDelta", tokens))
        events.append(Event({**at, **_padding()}, "other", "contentBlockStop"))
    events.append(Event({"stopReason": _reason(reply), **_padding()}, "end", "messageStop"))
    if call.quirks.usage != "omit":
        metadata = {"usage": _usage(reply.usage), "metrics": {"latencyMs": 1}, **_padding()}
        events += [Event(metadata, "other", "metadata")] * (2 if call.quirks.usage == "repeat" else 1)
    return Streamed(events, reply.usage, _error, "aws")


def count(call: Call) -> Answer:
    given = (call.body.get("input") or {}).get("converse")
    if not isinstance(given, dict):
        raise Refused(400, "invalid", "input.converse is needed")
    return Whole.json({"inputTokens": input_tokens(read(given))}, Usage())


def invoke(call: Call) -> Answer:
    text = call.body.get("inputText")
    if not isinstance(text, str) or "embed" not in call.model:
        raise Refused(400, "invalid", "Malformed input request: required key [inputText] not found")
    tokens = words(text)
    numbers = vector(text, call.body.get("dimensions") or 16)
    told = {"embedding": numbers, "embeddingsByType": {"float": numbers}, "inputTextTokenCount": tokens}
    headers = [("x-amzn-bedrock-input-token-count", str(tokens)), ("x-amzn-bedrock-invocation-latency", "1")]
    return Whole.json(told, Usage(input=tokens), headers=headers)


def models(call: Call) -> Answer:
    found = [{"modelId": name, "modelName": name, "providerName": name.split(".")[0]} for name in call.provider.models]
    return Whole.json({"modelSummaries": found}, Usage())


# ---- what was asked --------------------------------------------------------------------------------------------------


def _reply(call: Call) -> Reply:
    prompt = read(call.body)
    reply = answer(prompt, call.memory, f"{call.provider.name}/{call.key}")
    most = call.provider.context(call.model)
    if reply.usage.input > most:
        message = f"The model returned the following errors: Input is too long for requested model: {most} tokens."
        raise Refused(400, "context", message)
    return reply


def read(body: dict[str, Any]) -> Prompt:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "invalid", "messages must not be empty")
    if messages[0].get("role") != "user":
        raise Refused(400, "invalid", "A conversation must start with a user message.")
    prompt = Prompt([], cache="marked")
    system = body.get("system") or []
    prompt.system = "\n".join(block["text"] for block in system if "text" in block)
    prompt.system_marked = any("cachePoint" in block for block in system)
    before = None
    for at, message in enumerate(messages):
        if message.get("role") == before:
            raise Refused(400, "invalid", "messages must alternate between user and assistant roles.")
        before = message.get("role")
        _turns(prompt, message, f"messages.{at}")
    config = body.get("toolConfig") or {}
    for tool in config.get("tools") or []:
        if "cachePoint" in tool:
            prompt.system_marked = True
        elif "toolSpec" in tool:
            prompt.tools[tool["toolSpec"]["name"]] = tool["toolSpec"]["inputSchema"]["json"]
    choice = config.get("toolChoice") or {}
    if "any" in choice:
        prompt.choice = "required"
    elif "tool" in choice:
        prompt.choice = f"={choice['tool']['name']}"
    if not prompt.tools and any(turn.calls for turn in prompt.turns):
        raise Refused(400, "invalid", "The toolConfig field must be defined when using toolUse and toolResult content.")
    inference = body.get("inferenceConfig") or {}
    prompt.limit = inference.get("maxTokens")
    prompt.stop = inference.get("stopSequences") or []
    more = body.get("additionalModelRequestFields") or {}
    # Each family has its own name for it.
    asked = more.get("thinking") or more.get("reasoning_config") or more.get("reasoningConfig") or {}
    prompt.reasoning = asked.get("type") in ("enabled", "adaptive")
    form = (body.get("outputConfig") or {}).get("textFormat") or {}
    if form.get("type") == "json_schema":
        prompt.schema = orjson.loads(form["structure"]["jsonSchema"]["schema"])
    return prompt


def _turns(prompt: Prompt, message: dict[str, Any], where: str) -> None:
    role = message.get("role")
    if role not in ("user", "assistant"):
        raise Refused(400, "invalid", f"{where}.role must be user or assistant")
    turn, results = Turn(role), Turn("tool")
    texts = []
    pending = prompt.turns[-1].calls if prompt.turns else []
    answers = 0
    for block in message.get("content") or []:
        kind = next(iter(block), None)
        if kind == "text":
            texts.append(block["text"])
        elif kind in ("image", "document", "video", "audio"):
            turn.attached.append(_attached(kind, block[kind]))
        elif kind == "toolUse":
            turn.calls.append(block["toolUse"]["name"])
        elif kind == "toolResult":
            answers += 1
            results.text += ("\n" if results.text else "") + _result(block["toolResult"])
        elif kind == "cachePoint":
            turn.marked = results.marked = True
        elif kind == "reasoningContent":
            told = block["reasoningContent"].get("reasoningText")
            if told is not None and told.get("signature") != signature(told["text"]):
                raise Refused(400, "invalid", f"{where}: Invalid `signature` in `thinking` block")
        elif kind != "guardContent":
            raise Refused(400, "invalid", f"{where}: a block of sort {kind!r}")
    if answers != len(pending):
        message_ = f"Expected toolResult blocks at {where}.content for {len(pending)} toolUse blocks, got {answers}"
        raise Refused(400, "invalid", message_)
    turn.text = "\n".join(texts)
    if answers:
        prompt.turns.append(results)
        if not (turn.text or turn.attached):
            return
    prompt.turns.append(turn)


def _attached(kind: str, block: dict[str, Any]) -> str:
    form = block.get("format", "txt")
    types = {"pdf": "application/pdf", "txt": "text/plain"}
    media = f"{kind}/{form}" if kind != "document" else types.get(form, f"application/{form}")
    source = block["source"]
    if "bytes" in source:
        return f"{kind} {media} {octets(source['bytes'])}"
    if "text" in source:
        return f"{kind} {media} {len(source['text'].encode())}"
    return f"{kind} url"


def _result(block: dict[str, Any]) -> str:
    texts = []
    for part in block.get("content") or []:
        if "text" in part:
            texts.append(part["text"])
        elif "json" in part:
            texts.append(orjson.dumps(part["json"]).decode())
        else:
            texts.append(f"[{next(iter(part), '')}]")
    return ("error: " if block.get("status") == "error" else "") + "\n".join(texts)


# ---- what is answered ------------------------------------------------------------------------------------------------


def _usage(found: Usage) -> dict[str, Any]:
    """Input is told without what the cache took; the total has it."""
    told = {
        "inputTokens": found.input - found.cached_read - found.cached_write,
        "outputTokens": found.output,
        "totalTokens": found.input + found.output,
    }
    if found.cached_read or found.cached_write:
        told |= {"cacheReadInputTokens": found.cached_read, "cacheWriteInputTokens": found.cached_write}
    return told


def _reason(reply: Reply) -> str:
    return "stop_sequence" if reply.stopped_by else FINISH[reply.finish]


def _id(call: Call, place: int) -> str:
    return call.id(f"tooluse_{place}_")


def _padding() -> dict[str, str]:
    """Bedrock hides lengths by a member of varying size."""
    return {"p": "abcdefghij"}


def _blocks(call: Call, reply: Reply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if reply.reasoning:
        thought = "".join(reply.reasoning)
        blocks.append({"reasoningContent": {"reasoningText": {"text": thought, "signature": signature(thought)}}})
    if reply.text:
        blocks.append({"text": "".join(reply.text)})
    for at, spoken in enumerate(reply.calls):
        used = {"toolUseId": _id(call, at), "name": spoken.name, "input": orjson.loads(spoken.arguments)}
        blocks.append({"toolUse": used})
    return blocks


def _error(status: int, message: str) -> list[Event]:
    kinds = {
        "ThrottlingException": "throttlingException",
        "ValidationException": "validationException",
        "ServiceUnavailableException": "serviceUnavailableException",
        "ModelTimeoutException": "modelStreamErrorException",
    }
    kind = kinds.get(amazon_type(refusal(status, message)), "internalServerException")
    return [Event({"message": message}, "end", kind)]

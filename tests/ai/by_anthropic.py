"""The official `anthropic` client."""

from __future__ import annotations

import json
import time
from typing import Any

import anthropic
import httpx2

from tests.ai.feature import (
    ASKED,
    CITIES,
    COUNTED,
    LABELS,
    LONG,
    ONE,
    PIXEL,
    SCHEMA,
    SEEN,
    SYSTEM,
    TEXT,
    WAIT,
    Place,
    Suite,
    Target,
    breaks,
    holds,
    raises,
    same,
    together,
)

SUITE = Suite("anthropic", "claude")
TOOL = {"name": "weather", "description": "the sky", "input_schema": SCHEMA}


def connect(place: Place, retries: int = 0, key: str | None = None) -> Any:
    return anthropic.Anthropic(
        base_url=place.anthropic, api_key=key or place.key("anthropic"), max_retries=retries, timeout=20
    )


def say(target: Target, text: Any, **more: Any) -> dict[str, Any]:
    return {"model": target.model, "max_tokens": 2000, "messages": [{"role": "user", "content": text}], **more}


@SUITE.feature("chat")
def chat(place: Place, target: Target) -> None:
    message = connect(place).messages.create(**say(target, TEXT))
    same((message.type, message.role, message.stop_reason), ("message", "assistant", "end_turn"))
    same([(block.type, block.text) for block in message.content], [("text", TEXT)])
    same((message.usage.input_tokens, message.usage.output_tokens), (4, 4))


@SUITE.feature("stream")
def stream(place: Place, target: Target) -> None:
    with connect(place).messages.stream(**say(target, LONG)) as streamed:
        kinds = [event.type for event in streamed]
        final = streamed.get_final_message()
    same((kinds[0], kinds[-1]), ("message_start", "message_stop"))
    holds(kinds.count("content_block_delta") > 20, "it comes in pieces")
    same((final.content[0].text, final.stop_reason), (COUNTED, "end_turn"))
    same((final.usage.input_tokens, final.usage.output_tokens), (3, 60))


@SUITE.feature("system")
def system(place: Place, target: Target) -> None:
    messages = [
        {"role": "user", "content": TEXT},
        {"role": "assistant", "content": "indeed"},
        {"role": "user", "content": "describe"},
    ]
    given = [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}]
    made = {"model": target.model, "max_tokens": 500}
    seen = json.loads(connect(place).messages.create(**made, messages=messages, system=given).content[0].text)
    same(seen["system"], SYSTEM)
    turns = [(turn["role"], turn["text"]) for turn in seen["turns"]]
    same(turns, [("user", TEXT), ("assistant", "indeed"), ("user", "describe")])


@SUITE.feature("tools")
def tools(place: Place, target: Target) -> None:
    client = connect(place)
    message = client.messages.create(**say(target, ONE, tools=[TOOL]))
    same(message.stop_reason, "tool_use")
    (call,) = [block for block in message.content if block.type == "tool_use"]
    same((call.name, call.input), ("weather", {"city": CITIES[0]}))
    turns = [
        {"role": "user", "content": ONE},
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "it rains"}]},
    ]
    told = client.messages.create(model=target.model, max_tokens=500, messages=turns, tools=[TOOL])
    same(told.content[0].text, "result: it rains")
    choice = {"type": "tool", "name": "weather"}
    forced = client.messages.create(**say(target, TEXT, tools=[TOOL], tool_choice=choice))
    same([block.input for block in forced.content if block.type == "tool_use"], [{"city": TEXT}])


@SUITE.feature("parallel")
def parallel(place: Place, target: Target) -> None:
    client = connect(place)
    with client.messages.stream(**say(target, ASKED, tools=[TOOL])) as streamed:
        indexes = [event.index for event in streamed if event.type == "content_block_start"]
        final = streamed.get_final_message()
    same(indexes, list(range(len(indexes))))
    calls = [block for block in final.content if block.type == "tool_use"]
    same(([block.input["city"] for block in calls], final.stop_reason), (CITIES, "tool_use"))
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": f"sky {at}"} for at, block in enumerate(calls)
    ]
    turns = [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in calls]},
        {"role": "user", "content": results},
    ]
    told = client.messages.create(model=target.model, max_tokens=500, messages=turns, tools=[TOOL])
    same(told.content[0].text, "result: sky 0\nsky 1")


@SUITE.feature("structured")
def structured(place: Place, target: Target) -> None:
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    message = connect(place).messages.create(**say(target, TEXT, output_config=form))
    same(json.loads(message.content[0].text), {"city": TEXT})


@SUITE.feature("images")
def images(place: Place, target: Target) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    message = connect(place).messages.create(**say(target, [{"type": "text", "text": "look"}, image]))
    same(message.content[0].text, SEEN)


@SUITE.feature("reasoning")
def reasoning(place: Place, target: Target) -> None:
    """Blocks of it go back as they came."""
    client = connect(place)
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(**say(target, ONE, tools=[TOOL], thinking=thinking)) as streamed:
        first = streamed.get_final_message()
    holds(first.usage.output_tokens > 9, f"no reasoning in {first.usage}")
    (call,) = [block for block in first.content if block.type == "tool_use"]
    if target.label == "claude":
        same(first.content[0].type, "thinking")
    turns = [
        {"role": "user", "content": ONE},
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "wet"}]},
    ]
    made = {"model": target.model, "max_tokens": 2000, "tools": [TOOL], "thinking": thinking}
    told = client.messages.create(**made, messages=turns)
    same([block.text for block in told.content if block.type == "text"], ["result: wet"])


@SUITE.feature("limits")
def limits(place: Place, target: Target) -> None:
    client = connect(place)
    short = client.messages.create(**say(target, TEXT) | {"max_tokens": 2})
    same((short.content[0].text, short.stop_reason), ("the quick ", "max_tokens"))
    stopped = client.messages.create(**say(target, TEXT, stop_sequences=["brown"]))
    same(stopped.content[0].text, "the quick ")


@SUITE.feature("count")
def count(place: Place, target: Target) -> None:
    counted = connect(place).messages.count_tokens(
        model=target.model, messages=[{"role": "user", "content": TEXT}], system=SYSTEM
    )
    holds(counted.input_tokens > 0, "tokens are counted")
    if target.label == "claude":
        same(counted.input_tokens, 7)


@SUITE.feature("models", cross=False)
def models(place: Place, target: Target) -> None:
    holds(target.model in [model.id for model in connect(place).models.list()], "the model is listed")


@SUITE.feature("async")
def concurrently(place: Place, target: Target) -> None:
    async def one(number: int) -> str:
        made: Any = anthropic.AsyncAnthropic(
            base_url=place.anthropic, api_key=place.key("anthropic"), max_retries=0, timeout=20
        )
        async with made, made.messages.stream(**say(target, f"{TEXT} {number}")) as streamed:
            return str(await streamed.get_final_text())

    same(together(one), [f"{TEXT} {number}" for number in range(8)])


@SUITE.feature("401", cross=False)
def wrong_key(place: Place, target: Target) -> None:
    with raises(anthropic.AuthenticationError) as caught:
        connect(place, key="nobody-has-this-key").messages.create(**say(target, TEXT))
    same(caught[0].body["error"]["type"], "authentication_error")


@SUITE.feature("404", cross=False)
def no_model(place: Place, target: Target) -> None:
    with raises(anthropic.NotFoundError) as caught:
        connect(place).messages.create(**say(target, TEXT) | {"model": "missing-model"})
    same((caught[0].body["type"], caught[0].body["error"]["type"]), ("error", "not_found_error"))


@SUITE.feature("400")
def bad_request(place: Place, target: Target) -> None:
    with raises(anthropic.BadRequestError) as caught:
        connect(place).messages.create(model=target.model, max_tokens=5, messages=[])
    same(caught[0].body["error"]["type"], "invalid_request_error")


@SUITE.feature("429")
def limited(place: Place, target: Target) -> None:
    with (
        place.fault(target.label, status=429, headers={"retry-after": "1"}),
        raises(anthropic.RateLimitError) as caught,
    ):
        connect(place).messages.create(**say(target, TEXT))
    same(caught[0].body["error"]["type"], "rate_limit_error")
    holds(caught[0].response.headers.get("retry-after"), "retry-after")


@SUITE.feature("retry", cross=False)
def retries(place: Place, target: Target) -> None:
    began = time.monotonic()
    with place.fault(target.label, status=429, first=1, headers={"retry-after": str(WAIT)}):
        message = connect(place, retries=2).messages.create(**say(target, TEXT))
    same(message.content[0].text, TEXT)
    holds(time.monotonic() - began >= WAIT, "it waited")


@SUITE.feature("5xx")
def overloaded(place: Place, target: Target) -> None:
    status = 529 if LABELS[target.label] == "anthropic" else 503
    with place.fault(target.label, status=status), raises(anthropic.InternalServerError) as caught:
        connect(place).messages.create(**say(target, TEXT))
    if status == 529:
        same((caught[0].status_code, caught[0].body["error"]["type"]), (529, "overloaded_error"))
    else:
        holds(caught[0].body["error"]["type"] in ("overloaded_error", "api_error"), f"its type is {caught[0].body}")


@SUITE.feature("cut stream")
def cut(place: Place, target: Target) -> None:
    """What breaks in the middle is never told as complete."""
    broken: tuple[type[Exception], ...] = (anthropic.APIError,)
    if place.direct:  # this client lets the transport's own error through
        broken += (httpx2.TransportError,)
    for effects in ({"error_after": 3, "error_status": 529, "delay_delta": 10}, {"cut_deltas": 3, "delay_delta": 10}):
        with place.fault(target.label, **effects):
            breaks(connect(place).messages.create(**say(target, LONG, stream=True)), *broken)

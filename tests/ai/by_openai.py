"""The official `openai` client."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
from pydantic import BaseModel

from tests.ai.feature import (
    ASKED,
    CITIES,
    COUNTED,
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

SUITE = Suite("openai", "fast")
TOOL = {"type": "function", "function": {"name": "weather", "description": "the sky", "parameters": SCHEMA}}
RESPONSES_TOOL = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}


class City(BaseModel):
    name: str
    people: int
    tags: list[str]


CITY = City(name="a small town", people=3, tags=["a small town"])


def connect(place: Place, retries: int = 0, key: str | None = None) -> Any:
    return openai.OpenAI(
        base_url=place.openai,
        api_key=key or place.key("openai"),
        max_retries=retries,
        timeout=20,
        _strict_response_validation=False,
    )


def say(target: Target, text: Any, **more: Any) -> dict[str, Any]:
    return {"model": target.model, "messages": [{"role": "user", "content": text}], **more}


def text_of(stream: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@SUITE.feature("chat")
def chat(place: Place, target: Target) -> None:
    answer = connect(place).chat.completions.create(**say(target, TEXT))
    same((answer.object, answer.choices[0].message.role), ("chat.completion", "assistant"))
    same((answer.choices[0].message.content, answer.choices[0].finish_reason), (TEXT, "stop"))
    told = answer.usage
    same((told.prompt_tokens, told.completion_tokens, told.total_tokens), (4, 4, 8))
    holds(answer.id and answer.created and answer.model, "id, created and model")


@SUITE.feature("stream")
def stream(place: Place, target: Target) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(connect(place).chat.completions.create(**say(target, LONG, **options)))
    same(text_of(chunks), COUNTED)
    same({chunk.object for chunk in chunks}, {"chat.completion.chunk"})
    same(len({chunk.id for chunk in chunks}), 1)
    same([chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1], "stop")
    same((chunks[-1].choices, chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens), ([], 3, 60))
    same([chunk for chunk in chunks[:-1] if chunk.usage], [])
    same(text_of(connect(place).chat.completions.create(**say(target, TEXT, stream=True))), TEXT)


@SUITE.feature("system")
def system(place: Place, target: Target) -> None:
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": TEXT},
        {"role": "assistant", "content": "indeed"},
        {"role": "user", "content": "describe"},
    ]
    answer = connect(place).chat.completions.create(model=target.model, messages=messages)
    seen = json.loads(answer.choices[0].message.content)
    same(seen["system"], SYSTEM)
    turns = [(turn["role"], turn["text"]) for turn in seen["turns"]]
    same(turns, [("user", TEXT), ("assistant", "indeed"), ("user", "describe")])


@SUITE.feature("tools")
def tools(place: Place, target: Target) -> None:
    client = connect(place)
    choice = client.chat.completions.create(**say(target, ONE, tools=[TOOL])).choices[0]
    same(choice.finish_reason, "tool_calls")
    (call,) = choice.message.tool_calls
    same(
        (call.type, call.function.name, json.loads(call.function.arguments)),
        ("function", "weather", {"city": CITIES[0]}),
    )
    messages = [
        {"role": "user", "content": ONE},
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "it rains"},
    ]
    told = client.chat.completions.create(model=target.model, messages=messages, tools=[TOOL])
    same(told.choices[0].message.content, "result: it rains")
    choice = {"type": "function", "function": {"name": "weather"}}
    forced = client.chat.completions.create(**say(target, TEXT, tools=[TOOL], tool_choice=choice)).choices[0]
    same(json.loads(forced.message.tool_calls[0].function.arguments), {"city": TEXT})
    none = client.chat.completions.create(**say(target, ONE, tools=[TOOL], tool_choice="none")).choices[0]
    same((none.message.content, none.message.tool_calls), (ONE, None))


@SUITE.feature("parallel")
def parallel(place: Place, target: Target) -> None:
    client = connect(place)
    calls: dict[int, tuple[str, str, list[str]]] = {}
    finish = None
    for chunk in client.chat.completions.create(**say(target, ASKED, tools=[TOOL], stream=True)):
        finish = (chunk.choices and chunk.choices[0].finish_reason) or finish
        for piece in (chunk.choices and chunk.choices[0].delta.tool_calls) or []:
            if piece.index not in calls:
                calls[piece.index] = (piece.id, piece.function.name, [])
            calls[piece.index][2].append(piece.function.arguments or "")
    same(finish, "tool_calls")
    same(sorted(calls), [0, 1])
    same([name for _, name, _ in calls.values()], ["weather", "weather"])
    same([json.loads("".join(parts))["city"] for _, _, parts in calls.values()], CITIES)
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": ASKED},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": id, "type": "function", "function": {"name": name, "arguments": "".join(parts)}}
                for id, name, parts in calls.values()
            ],
        },
    ]
    for number, (id, _, _) in enumerate(calls.values()):
        messages.append({"role": "tool", "tool_call_id": id, "content": f"sky {number}"})
    told = client.chat.completions.create(model=target.model, messages=messages, tools=[TOOL])
    same(told.choices[0].message.content, "result: sky 0\nsky 1")


@SUITE.feature("structured")
def structured(place: Place, target: Target) -> None:
    parsed = connect(place).chat.completions.parse(**say(target, "a small town"), response_format=City)
    same(parsed.choices[0].message.parsed, CITY)


@SUITE.feature("images")
def images(place: Place, target: Target) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    answer = connect(place).chat.completions.create(**say(target, [{"type": "text", "text": "look"}, image]))
    same(answer.choices[0].message.content, SEEN)


@SUITE.feature("reasoning")
def reasoning(place: Place, target: Target) -> None:
    answer = connect(place).chat.completions.create(**say(target, TEXT, reasoning_effort="medium"))
    same(answer.choices[0].message.content, TEXT)
    holds(answer.usage.completion_tokens > 4, f"no reasoning in {answer.usage}")


@SUITE.feature("limits")
def limits(place: Place, target: Target) -> None:
    client = connect(place)
    short = client.chat.completions.create(**say(target, TEXT, max_completion_tokens=2)).choices[0]
    same((short.message.content, short.finish_reason), ("the quick ", "length"))
    stopped = client.chat.completions.create(**say(target, TEXT, stop=["brown"])).choices[0]
    same((stopped.message.content, stopped.finish_reason), ("the quick ", "stop"))


@SUITE.feature("responses")
def responses(place: Place, target: Target) -> None:
    client = connect(place)
    answer = client.responses.create(model=target.model, input=TEXT, instructions=SYSTEM, store=False)
    same((answer.status, answer.output_text), ("completed", TEXT))
    same((answer.usage.input_tokens, answer.usage.output_tokens), (7, 4))
    with client.responses.stream(model=target.model, input=LONG, store=False) as streamed:
        kinds = [event.type for event in streamed]
        final = streamed.get_final_response()
    same((kinds[0], kinds[-1]), ("response.created", "response.completed"))
    same((final.output_text, final.usage.output_tokens), (COUNTED, 60))


@SUITE.feature("responses tools")
def responses_tools(place: Place, target: Target) -> None:
    client = connect(place)
    given: list[Any] = [{"role": "user", "content": ASKED}]
    with client.responses.stream(model=target.model, input=given, tools=[RESPONSES_TOOL], store=False) as streamed:
        kinds = [event.type for event in streamed]
        final = streamed.get_final_response()
    calls = [item for item in final.output if item.type == "function_call"]
    same([json.loads(call.arguments)["city"] for call in calls], CITIES)
    holds("response.function_call_arguments.delta" in kinds, "arguments are streamed")
    given += [{key: getattr(call, key) for key in ("type", "call_id", "name", "arguments")} for call in calls]
    given += [{"type": "function_call_output", "call_id": call.call_id, "output": "wet"} for call in calls]
    told = client.responses.create(model=target.model, input=given, tools=[RESPONSES_TOOL], store=False)
    same(told.output_text, "result: wet\nwet")
    parsed = client.responses.parse(model=target.model, input="a small town", text_format=City, store=False)
    same(parsed.output_parsed, CITY)


@SUITE.feature("responses state", cross=False)
def responses_state(place: Place, target: Target) -> None:
    client = connect(place)
    first = client.responses.create(model=target.model, input=TEXT)
    second = client.responses.create(model=target.model, input="describe", previous_response_id=first.id)
    same([turn["text"] for turn in json.loads(second.output_text)["turns"]], [TEXT, TEXT, "describe"])


@SUITE.feature("embeddings", cross=False)
def embeddings(place: Place, target: Target) -> None:
    found = connect(place).embeddings.create(model=place.models["embed"], input=["one two", "three"])
    same([len(one.embedding) for one in found.data], [16, 16])
    same(found.usage.prompt_tokens, 3)


@SUITE.feature("models", cross=False)
def models(place: Place, target: Target) -> None:
    client = connect(place)
    holds(target.model in [model.id for model in client.models.list()], "the model is listed")
    same(client.models.retrieve(target.model).id, target.model)


@SUITE.feature("async")
def concurrently(place: Place, target: Target) -> None:
    async def one(number: int) -> str:
        made: Any = openai.AsyncOpenAI(base_url=place.openai, api_key=place.key("openai"), max_retries=0)
        async with made:
            answer = await made.chat.completions.create(**say(target, f"{TEXT} {number}", stream=True))
            return "".join([chunk.choices[0].delta.content or "" async for chunk in answer if chunk.choices])

    same(together(one), [f"{TEXT} {number}" for number in range(8)])


@SUITE.feature("401", cross=False)
def wrong_key(place: Place, target: Target) -> None:
    with raises(openai.AuthenticationError) as caught:
        connect(place, key="nobody-has-this-key").chat.completions.create(**say(target, TEXT))
    holds(caught[0].message and caught[0].type, "message and type")


@SUITE.feature("404", cross=False)
def no_model(place: Place, target: Target) -> None:
    with raises(openai.NotFoundError) as caught:
        connect(place).chat.completions.create(**say(target, TEXT) | {"model": "missing-model"})
    same(caught[0].code, "model_not_found")


@SUITE.feature("400")
def bad_request(place: Place, target: Target) -> None:
    with raises(openai.BadRequestError):
        connect(place).chat.completions.create(model=target.model, messages=[])


@SUITE.feature("429")
def limited(place: Place, target: Target) -> None:
    with place.fault(target.label, status=429, headers={"retry-after": "1"}), raises(openai.RateLimitError) as caught:
        connect(place).chat.completions.create(**say(target, TEXT))
    holds(caught[0].response.headers.get("retry-after"), "retry-after")


@SUITE.feature("retry", cross=False)
def retries(place: Place, target: Target) -> None:
    began = time.monotonic()
    with place.fault(target.label, status=429, first=1, headers={"retry-after": str(WAIT)}):
        answer = connect(place, retries=2).chat.completions.create(**say(target, TEXT))
    same(answer.choices[0].message.content, TEXT)
    holds(time.monotonic() - began >= WAIT, "it waited")


@SUITE.feature("5xx")
def broken(place: Place, target: Target) -> None:
    with place.fault(target.label, status=503), raises(openai.InternalServerError):
        connect(place).chat.completions.create(**say(target, TEXT))


@SUITE.feature("cut stream")
def cut(place: Place, target: Target) -> None:
    """What breaks in the middle is never told as complete."""
    for effects in ({"error_after": 3, "delay_delta": 10}, {"cut_deltas": 3, "delay_delta": 10}):
        with place.fault(target.label, **effects):
            breaks(connect(place).chat.completions.create(**say(target, LONG, stream=True)), openai.APIError)

"""The official `google-genai` client."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import httpx
import httpx2
from google import genai
from google.genai import errors, types
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
    Place,
    Suite,
    Target,
    breaks,
    holds,
    raises,
    same,
    together,
)

SUITE = Suite("google-genai", "gemini")


class City(BaseModel):
    name: str
    people: int


def make(url: str, key: str) -> Any:
    return genai.Client(api_key=key, http_options={"base_url": url, "timeout": 20_000})


#: Kept, as a client that is collected closes its connections under its own calls.
kept = cache(make)


def connect(place: Place, key: str | None = None) -> Any:
    return kept(place.gemini, key or place.key("gemini"))


def tool() -> Any:
    declared = types.FunctionDeclaration(name="weather", description="the sky", parameters_json_schema=SCHEMA)
    return types.Tool(function_declarations=[declared])


def config(**members: Any) -> Any:
    return types.GenerateContentConfig(**members)


def say(target: Target, text: Any, **members: Any) -> dict[str, Any]:
    return {"model": target.model, "contents": text, "config": config(**members)}


@SUITE.feature("chat")
def chat(place: Place, target: Target) -> None:
    answer = connect(place).models.generate_content(**say(target, TEXT))
    same((answer.text, answer.candidates[0].finish_reason), (TEXT, "STOP"))
    told = answer.usage_metadata
    same((told.prompt_token_count, told.candidates_token_count, told.total_token_count), (4, 4, 8))


@SUITE.feature("stream")
def stream(place: Place, target: Target) -> None:
    chunks = list(connect(place).models.generate_content_stream(**say(target, LONG)))
    same("".join(chunk.text or "" for chunk in chunks), COUNTED)
    holds(len(chunks) > 20, "it comes in pieces")
    same(chunks[-1].candidates[0].finish_reason, "STOP")
    same((chunks[-1].usage_metadata.prompt_token_count, chunks[-1].usage_metadata.candidates_token_count), (3, 60))


@SUITE.feature("system")
def system(place: Place, target: Target) -> None:
    contents = [types.UserContent(TEXT), types.ModelContent("indeed"), types.UserContent("describe")]
    answer = connect(place).models.generate_content(**say(target, contents, system_instruction=SYSTEM))
    seen = json.loads(answer.text)
    same(seen["system"], SYSTEM)
    turns = [(turn["role"], turn["text"]) for turn in seen["turns"]]
    same(turns, [("user", TEXT), ("assistant", "indeed"), ("user", "describe")])


def answered(place: Place, target: Target, asked: str, content: Any, results: list[str]) -> str:
    parts = [types.Part.from_function_response(name="weather", response={"result": result}) for result in results]
    for part, call in zip(parts, [part.function_call for part in content.parts if part.function_call], strict=True):
        part.function_response.id = call.id
    contents = [types.UserContent(asked), content, types.Content(role="user", parts=parts)]
    return str(connect(place).models.generate_content(**say(target, contents, tools=[tool()])).text)


@SUITE.feature("tools")
def tools(place: Place, target: Target) -> None:
    client = connect(place)
    answer = client.models.generate_content(**say(target, ONE, tools=[tool()]))
    same([(call.name, call.args) for call in answer.function_calls], [("weather", {"city": CITIES[0]})])
    told = answered(place, target, ONE, answer.candidates[0].content, ["it rains"])
    holds("it rains" in told and told.startswith("result: "), told)
    mode = types.FunctionCallingConfig(mode="ANY", allowed_function_names=["weather"])
    choice = types.ToolConfig(function_calling_config=mode)
    forced = client.models.generate_content(**say(target, TEXT, tools=[tool()], tool_config=choice))
    same([call.args for call in forced.function_calls], [{"city": TEXT}])


@SUITE.feature("parallel")
def parallel(place: Place, target: Target) -> None:
    parts = []
    for chunk in connect(place).models.generate_content_stream(**say(target, ASKED, tools=[tool()])):
        parts += [part for part in chunk.candidates[0].content.parts or [] if part.function_call]
    same([part.function_call.args["city"] for part in parts], CITIES)
    told = answered(place, target, ASKED, types.Content(role="model", parts=parts), ["sky 0", "sky 1"])
    holds(told.startswith("result: ") and told.index("sky 0") < told.index("sky 1"), told)


@SUITE.feature("structured")
def structured(place: Place, target: Target) -> None:
    members = {"response_mime_type": "application/json", "response_schema": City}
    answer = connect(place).models.generate_content(**say(target, "a small town", **members))
    same(answer.parsed, City(name="a small town", people=3))


@SUITE.feature("images")
def images(place: Place, target: Target) -> None:
    image = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
    answer = connect(place).models.generate_content(**say(target, ["look", image]))
    same(answer.text, SEEN)


@SUITE.feature("reasoning")
def reasoning(place: Place, target: Target) -> None:
    thinking = types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
    answer = connect(place).models.generate_content(**say(target, TEXT, thinking_config=thinking))
    same(answer.text, TEXT)
    told = answer.usage_metadata
    holds((told.candidates_token_count or 0) + (told.thoughts_token_count or 0) > 4, f"no reasoning in {told}")


@SUITE.feature("limits")
def limits(place: Place, target: Target) -> None:
    client = connect(place)
    short = client.models.generate_content(**say(target, TEXT, max_output_tokens=2))
    same((short.text, short.candidates[0].finish_reason), ("the quick ", "MAX_TOKENS"))
    same(client.models.generate_content(**say(target, TEXT, stop_sequences=["brown"])).text, "the quick ")


@SUITE.feature("count")
def count(place: Place, target: Target) -> None:
    counted = connect(place).models.count_tokens(model=target.model, contents=TEXT)
    holds(counted.total_tokens > 0, "tokens are counted")


@SUITE.feature("models", cross=False)
def models(place: Place, target: Target) -> None:
    holds(f"models/{target.model}" in [model.name for model in connect(place).models.list()], "the model is listed")


@SUITE.feature("async")
def concurrently(place: Place, target: Target) -> None:
    async def one(number: int) -> str:
        client = make(place.gemini, place.key("gemini"))
        answer = await client.aio.models.generate_content_stream(**say(target, f"{TEXT} {number}"))
        text = "".join([chunk.text or "" async for chunk in answer])
        await client.aio.aclose()
        return text

    same(together(one), [f"{TEXT} {number}" for number in range(8)])


@SUITE.feature("401", cross=False)
def wrong_key(place: Place, target: Target) -> None:
    """Google itself says 400 to a wrong key; a gateway may say 401."""
    with raises(errors.ClientError) as caught:
        connect(place, "nobody-has-this-key").models.generate_content(**say(target, TEXT))
    told = (caught[0].code, caught[0].status)
    holds(told == (400, "INVALID_ARGUMENT") or (not place.direct and told == (401, "UNAUTHENTICATED")), str(told))


@SUITE.feature("404", cross=False)
def no_model(place: Place, target: Target) -> None:
    with raises(errors.ClientError) as caught:
        connect(place).models.generate_content(**say(target, TEXT) | {"model": "missing-model"})
    same((caught[0].code, caught[0].status), (404, "NOT_FOUND"))


@SUITE.feature("400")
def bad_request(place: Place, target: Target) -> None:
    wrong = [types.Content(role="nobody", parts=[types.Part(text="x")])]
    with raises(errors.ClientError) as caught:
        connect(place).models.generate_content(**say(target, wrong))
    same((caught[0].code, caught[0].status), (400, "INVALID_ARGUMENT"))


@SUITE.feature("429")
def limited(place: Place, target: Target) -> None:
    with place.fault(target.label, status=429, headers={"retry-after": "1"}), raises(errors.ClientError) as caught:
        connect(place).models.generate_content(**say(target, TEXT))
    same((caught[0].code, caught[0].status), (429, "RESOURCE_EXHAUSTED"))


@SUITE.feature("retry", cross=False)
def retries(place: Place, target: Target) -> None:
    """This client waits by its own clock and takes no notice of `retry-after`."""
    client = connect(place)
    options = types.HttpOptions(retry_options=types.HttpRetryOptions(attempts=3, initial_delay=0.1))
    with place.fault(target.label, status=429, first=1):
        answer = client.models.generate_content(**say(target, TEXT, http_options=options))
    same(answer.text, TEXT)


@SUITE.feature("5xx")
def broken(place: Place, target: Target) -> None:
    with place.fault(target.label, status=503), raises(errors.ServerError):
        connect(place).models.generate_content(**say(target, TEXT))


@SUITE.feature("cut stream")
def cut(place: Place, target: Target) -> None:
    """What breaks in the middle is never told as complete."""
    broken: tuple[type[Exception], ...] = (errors.APIError,)
    if place.direct:  # this client lets the transport's own error through
        broken += (httpx.TransportError, httpx2.TransportError)
    for effects in ({"error_after": 3, "delay_delta": 10}, {"cut_deltas": 3, "delay_delta": 10}):
        with place.fault(target.label, **effects):
            breaks(connect(place).models.generate_content_stream(**say(target, LONG)), *broken)

"""LangChain's chat models: `ChatOpenAI` and `ChatAnthropic`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

from tests.ai.feature import (
    ASKED,
    CITIES,
    COUNTED,
    LONG,
    ONE,
    PIXEL,
    SEEN,
    SYSTEM,
    TEXT,
    Place,
    Suite,
    Target,
    holds,
    raises,
    same,
    together,
)

Maker = Callable[..., Any]


@tool
def weather(city: str) -> str:
    """The sky over a city."""
    return f"grey over {city}"


class City(BaseModel):
    """A place where people live."""

    name: str = Field(description="what it is called")
    people: int = Field(description="how many")


def by_openai(place: Place, target: Target, **more: Any) -> Any:
    options = {"api_key": place.key("openai"), "max_retries": 0, "stream_usage": True, "timeout": 20} | more
    return ChatOpenAI(base_url=place.openai, model=target.model, **options)  # type: ignore[arg-type, unused-ignore]


def by_anthropic(place: Place, target: Target, **more: Any) -> Any:
    options = {"api_key": place.key("anthropic"), "max_retries": 0, "max_tokens": 2000, "timeout": 20} | more
    return ChatAnthropic(base_url=place.anthropic, model=target.model, **options)  # type: ignore[call-arg, arg-type, unused-ignore]


def text_of(message: Any) -> str:
    """Content is a text, or blocks of it."""
    if isinstance(message.content, str):
        return message.content
    return "".join(block.get("text", "") for block in message.content if isinstance(block, dict))


def suite(name: str, own: str, make: Maker, errors: Any) -> Suite:
    made = Suite(name, own)

    @made.feature("chat")
    def chat(place: Place, target: Target) -> None:
        message = make(place, target).invoke(TEXT)
        same(text_of(message), TEXT)
        told = message.usage_metadata
        same((told["input_tokens"], told["output_tokens"], told["total_tokens"]), (4, 4, 8))

    @made.feature("stream")
    def stream(place: Place, target: Target) -> None:
        """Chunks are added up by the client: usage told twice would be doubled."""
        chunks = list(make(place, target).stream(LONG))
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
        same(text_of(whole), COUNTED)
        same((whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]), (3, 60))
        holds(len(chunks) > 20, "it comes in pieces")

    @made.feature("system")
    def system(place: Place, target: Target) -> None:
        turns = [SystemMessage(SYSTEM), HumanMessage(TEXT), AIMessage("indeed"), HumanMessage("describe")]
        seen = json.loads(text_of(make(place, target).invoke(turns)))
        same(seen["system"], SYSTEM)
        same([turn["text"] for turn in seen["turns"]], [TEXT, "indeed", "describe"])

    @made.feature("tools")
    def tools(place: Place, target: Target) -> None:
        model = make(place, target).bind_tools([weather])
        turns: list[Any] = [HumanMessage(ONE)]
        turns.append(model.invoke(turns))
        (call,) = turns[-1].tool_calls
        same((call["name"], call["args"]), ("weather", {"city": CITIES[0]}))
        turns.append(ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]))
        same(text_of(model.invoke(turns)), f"result: grey over {CITIES[0]}")

    @made.feature("parallel")
    def parallel(place: Place, target: Target) -> None:
        whole: Any = None
        for chunk in make(place, target).bind_tools([weather]).stream(ASKED):
            whole = chunk if whole is None else whole + chunk
        same([call["args"]["city"] for call in whole.tool_calls], CITIES)

    @made.feature("structured")
    def structured(place: Place, target: Target) -> None:
        """By a schema, and by a tool that must be called."""
        for method in ("json_schema", "function_calling"):
            model = make(place, target).with_structured_output(City, method=method)
            same(model.invoke("a small town"), City(name="a small town", people=3))

    @made.feature("images")
    def images(place: Place, target: Target) -> None:
        block = {"type": "image", "base64": PIXEL, "mime_type": "image/png"}
        message = make(place, target).invoke([HumanMessage([{"type": "text", "text": "look"}, block])])
        same(text_of(message), SEEN)

    @made.feature("async")
    def concurrently(place: Place, target: Target) -> None:
        async def one(number: int) -> str:
            return text_of(await make(place, target).ainvoke(f"{TEXT} {number}"))

        same(together(one), [f"{TEXT} {number}" for number in range(8)])

    @made.feature("401", cross=False)
    def wrong_key(place: Place, target: Target) -> None:
        with raises(errors.AuthenticationError):
            make(place, target, api_key="nobody-has-this-key").invoke(TEXT)

    @made.feature("404", cross=False)
    def no_model(place: Place, target: Target) -> None:
        with raises(errors.NotFoundError):
            make(place, Target(target.label, "missing-model")).invoke(TEXT)

    @made.feature("429")
    def limited(place: Place, target: Target) -> None:
        with place.fault(target.label, status=429, headers={"retry-after": "1"}), raises(errors.RateLimitError):
            make(place, target).invoke(TEXT)

    @made.feature("retry", cross=False)
    def retries(place: Place, target: Target) -> None:
        with place.fault(target.label, status=429, first=1, headers={"retry-after": "1"}):
            same(text_of(make(place, target, max_retries=2).invoke(TEXT)), TEXT)

    return made


OPENAI = suite("langchain-openai", "fast", by_openai, openai)
ANTHROPIC = suite("langchain-anthropic", "claude", by_anthropic, anthropic)


@OPENAI.feature("responses")
def responses(place: Place, target: Target) -> None:
    message = by_openai(place, target, use_responses_api=True).invoke(TEXT)
    same(text_of(message), TEXT)
    same(message.usage_metadata["output_tokens"], 4)


@OPENAI.feature("embeddings", cross=False)
def embeddings(place: Place, target: Target) -> None:
    """It sends tokens instead of texts, unless told not to."""
    options: dict[str, Any] = {"api_key": place.key("openai"), "check_embedding_ctx_length": False}
    found = OpenAIEmbeddings(base_url=place.openai, model=place.models["embed"], **options)
    same([len(one) for one in found.embed_documents(["one two", "three"])], [16, 16])

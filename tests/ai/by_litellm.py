"""LiteLLM as a client, speaking OpenAI's and Anthropic's dialect.

Its price map is fetched from the network when it is imported, unless it is told to use its own.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

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
    holds,
    raises,
    same,
)

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_LOG", "ERROR")

import litellm  # noqa: E402

litellm.suppress_debug_info = True
TOOL = {"type": "function", "function": {"name": "weather", "description": "the sky", "parameters": SCHEMA}}


def suite(name: str, own: str, dialect: str) -> Suite:
    made = Suite(name, own)

    def complete(place: Place, target: Target, messages: Any, key: str | None = None, **more: Any) -> Any:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return litellm.completion(
            model=f"{dialect}/{target.model}",
            messages=messages,
            api_base=place.openai if dialect == "openai" else place.anthropic,
            api_key=key or place.key(dialect),
            timeout=20,
            **{"max_retries": 0, "max_tokens": 2000} | more,
        )

    @made.feature("chat")
    def chat(place: Place, target: Target) -> None:
        answer = complete(place, target, TEXT)
        same((answer.choices[0].message.content, answer.choices[0].finish_reason), (TEXT, "stop"))
        same((answer.usage.prompt_tokens, answer.usage.completion_tokens), (4, 4))

    @made.feature("stream")
    def stream(place: Place, target: Target) -> None:
        chunks = list(complete(place, target, LONG, stream=True, stream_options={"include_usage": True}))
        same("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), COUNTED)
        told = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
        same([(one.prompt_tokens, one.completion_tokens) for one in told], [(3, 60)])

    @made.feature("system")
    def system(place: Place, target: Target) -> None:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "describe"}]
        same(json.loads(complete(place, target, messages).choices[0].message.content)["system"], SYSTEM)

    @made.feature("tools")
    def tools(place: Place, target: Target) -> None:
        message = complete(place, target, ONE, tools=[TOOL]).choices[0].message
        (call,) = message.tool_calls
        same((call.function.name, json.loads(call.function.arguments)), ("weather", {"city": CITIES[0]}))
        turns = [
            {"role": "user", "content": ONE},
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "it rains"},
        ]
        same(complete(place, target, turns, tools=[TOOL]).choices[0].message.content, "result: it rains")

    @made.feature("parallel")
    def parallel(place: Place, target: Target) -> None:
        chunks = list(complete(place, target, ASKED, tools=[TOOL], stream=True))
        whole: Any = litellm.stream_chunk_builder(chunks)
        calls = whole.choices[0].message.tool_calls
        same([json.loads(call.function.arguments)["city"] for call in calls], CITIES)

    @made.feature("structured")
    def structured(place: Place, target: Target) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
        content = complete(place, target, TEXT, response_format=form).choices[0].message.content
        same(json.loads(content), {"city": TEXT})

    @made.feature("images")
    def images(place: Place, target: Target) -> None:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        turn = [{"role": "user", "content": [{"type": "text", "text": "look"}, image]}]
        same(complete(place, target, turn).choices[0].message.content, SEEN)

    @made.feature("limits")
    def limits(place: Place, target: Target) -> None:
        choice = complete(place, target, TEXT, max_tokens=2).choices[0]
        same((choice.message.content, choice.finish_reason), ("the quick ", "length"))

    @made.feature("401", cross=False)
    def wrong_key(place: Place, target: Target) -> None:
        with raises(litellm.AuthenticationError):
            complete(place, target, TEXT, key="nobody-has-this-key")

    @made.feature("404", cross=False)
    def no_model(place: Place, target: Target) -> None:
        with raises(litellm.NotFoundError):
            complete(place, Target(target.label, "missing-model"), TEXT)

    @made.feature("429")
    def limited(place: Place, target: Target) -> None:
        with place.fault(target.label, status=429, headers={"retry-after": "1"}), raises(litellm.RateLimitError):
            complete(place, target, TEXT)

    if dialect == "openai":

        @made.feature("retry", cross=False)
        def retries(place: Place, target: Target) -> None:
            """Its OpenAI client obeys `retry-after`, as it is the official one."""
            began = time.monotonic()
            with place.fault(target.label, status=429, first=1, headers={"retry-after": str(WAIT)}):
                same(complete(place, target, TEXT, max_retries=2).choices[0].message.content, TEXT)
            holds(time.monotonic() - began >= WAIT, "it waited")

        @made.feature("embeddings", cross=False)
        def embeddings(place: Place, target: Target) -> None:
            found: Any = litellm.embedding(
                model=f"openai/{place.models['embed']}",
                input=["one two", "three"],
                api_base=place.openai,
                api_key=place.key("openai"),
            )
            same([len(one["embedding"]) for one in found.data], [16, 16])

    return made


OPENAI = suite("litellm openai", "fast", "openai")
ANTHROPIC = suite("litellm anthropic", "claude", "anthropic")

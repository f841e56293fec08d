"""Cohere's v2 wire format, by plain HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.providers.running import Simulator

MODEL = "command-a-03-2025"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ASKED = 'call weather({"city": "Bern and its lakes"}) and call weather({"city": "Genf"})'


@pytest.fixture
def post(providers: Simulator) -> Any:
    def post(path: str, key: str = "cohere-key-1", **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.post(f"{providers.url}/cohere/v2{path}", json={"model": MODEL, **body}, headers=headers)

    return post


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    found = []
    for block in answer.text.strip().split("\n\n"):
        name, data = block.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        found.append(told)
    return found


def test_chat(post: Any) -> None:
    told = post("/chat", messages=user("hello there")).json()
    assert told["message"]["content"] == [{"type": "text", "text": "hello there"}]
    assert told["usage"]["tokens"] == {"input_tokens": 2, "output_tokens": 2}
    stream = events(post("/chat", messages=user("hello there"), stream=True))
    assert (stream[0]["type"], stream[-1]["type"]) == ("message-start", "message-end")
    deltas = [event["delta"]["message"]["content"]["text"] for event in stream if event["type"] == "content-delta"]
    assert "".join(deltas) == "hello there"
    assert stream[-1]["delta"]["finish_reason"] == "COMPLETE"


def test_tools(post: Any) -> None:
    told = post("/chat", messages=user(ASKED), tools=[TOOL]).json()
    assert told["finish_reason"] == "TOOL_CALL"
    assert [json.loads(call["function"]["arguments"])["city"] for call in told["message"]["tool_calls"]][1] == "Genf"
    arguments: dict[int, str] = {}
    for event in events(post("/chat", messages=user(ASKED), tools=[TOOL], stream=True)):
        if event["type"] in ("tool-call-start", "tool-call-delta"):
            piece = event["delta"]["message"]["tool_calls"]["function"]["arguments"]
            arguments[event["index"]] = arguments.get(event["index"], "") + piece
    assert [json.loads(text)["city"] for text in arguments.values()] == ["Bern and its lakes", "Genf"]


def test_rerank_embed_and_errors(post: Any, providers: Simulator) -> None:
    told = post("/rerank", model="rerank-v3.5", query="blue sea", documents=["red", "blue sea"]).json()
    assert [one["index"] for one in told["results"]] == [1, 0] and told["meta"]["billed_units"]["search_units"] == 1
    texts = ["a", "b c"]
    assert len(post("/embed", model="embed-v4.0", texts=texts).json()["embeddings"]["float"]) == 2
    assert post("/chat", "nobody", messages=user("x")).status_code == 401
    assert post("/chat", model="missing", messages=user("x")).json()["message"]
    providers.faults({"error_after": 1})
    assert events(post("/chat", messages=user("a b"), stream=True))[-1]["delta"]["finish_reason"] == "ERROR"

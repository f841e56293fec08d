"""The official `openai` SDK against the simulator: chat, responses, the rest of the platform, Azure."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.providers.running import Simulator

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED = 'please call weather({"city": "Bern and its lakes"}) and call weather({"city": "Zürich"})'


@pytest.fixture
def client(providers: Simulator) -> Any:
    return openai.OpenAI(base_url=f"{providers.url}/openai/v1", api_key="openai-key-1", max_retries=0)


def say(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **more}


def test_chat(client: Any, providers: Simulator) -> None:
    raw = client.chat.completions.with_raw_response.create(**say("hello big world"))
    assert raw.headers["x-request-id"] and raw.headers["x-ratelimit-remaining-tokens"]
    answer = raw.parse()
    assert answer.choices[0].message.content == "hello big world"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3)
    entry = providers.last()
    assert (entry["key"], entry["model"], entry["finished"], entry["gone"]) == (
        "openai-key-1",
        "gpt-4o-mini",
        True,
        False,
    )
    assert entry["usage"] == entry["sent"]
    assert (entry["usage"]["input"], entry["usage"]["output"]) == (3, 3)


def test_chat_stream(client: Any) -> None:
    chunks = list(client.chat.completions.create(**say("one two", stream=True, stream_options={"include_usage": True})))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two"
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    assert chunks[-2].choices[0].finish_reason == "stop"
    plain = list(client.chat.completions.create(**say("one two", stream=True)))
    assert all(chunk.usage is None for chunk in plain)


def test_what_the_model_saw(client: Any) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
    ]
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
    assert answer.choices[0].message.content == "look [image image/png 5]"
    assert answer.usage.prompt_tokens == 2 + 1 + 85
    messages += [{"role": "assistant", "content": "fine"}, {"role": "user", "content": "describe"}]
    described = json.loads(
        client.chat.completions.create(model="gpt-4o-mini", messages=messages).choices[0].message.content
    )
    assert described["system"] == "be brief"
    assert [(turn["role"], turn["text"]) for turn in described["turns"]] == [
        ("user", "look"),
        ("assistant", "fine"),
        ("user", "describe"),
    ]


def test_tools_and_their_results(client: Any) -> None:
    answer = client.chat.completions.create(**say(ASKED, tools=[TOOL]))
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    asked = [json.loads(call.function.arguments) for call in choice.message.tool_calls]
    assert asked == [{"city": "Bern and its lakes"}, {"city": "Zürich"}]
    messages = [{"role": "user", "content": ASKED}, choice.message.model_dump(exclude_none=True)]
    for number, call in enumerate(choice.message.tool_calls):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"sunny {number}"})
    told = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=[TOOL])
    assert told.choices[0].message.content == "result: sunny 0\nsunny 1"
    one = client.chat.completions.create(**say(ASKED, tools=[TOOL], parallel_tool_calls=False))
    assert len(one.choices[0].message.tool_calls) == 1
    none = client.chat.completions.create(**say(ASKED, tools=[TOOL], tool_choice="none"))
    assert none.choices[0].message.tool_calls is None
    forced = client.chat.completions.create(**say("any weather", tools=[TOOL], tool_choice="required"))
    assert json.loads(forced.choices[0].message.tool_calls[0].function.arguments) == {"city": "any weather"}


def test_parallel_tools_come_in_pieces(client: Any) -> None:
    calls: dict[int, list[str]] = {}
    pieces = 0
    for chunk in client.chat.completions.create(**say(ASKED, tools=[TOOL], stream=True)):
        for call in chunk.choices[0].delta.tool_calls or []:
            pieces += 1
            assert call.index not in calls or (call.id is None and call.function.name is None)
            calls.setdefault(call.index, []).append(call.function.arguments)
    assert [json.loads("".join(parts))["city"] for parts in calls.values()] == ["Bern and its lakes", "Zürich"]
    assert pieces > 8


class Place(BaseModel):
    name: str
    people: int
    tags: list[str]


def test_structured_output(client: Any) -> None:
    parsed = client.chat.completions.parse(**say("a small town"), response_format=Place).choices[0].message.parsed
    assert parsed == Place(name="a small town", people=3, tags=["a small town"])
    free = client.chat.completions.create(**say("a town", response_format={"type": "json_object"}))
    assert json.loads(free.choices[0].message.content) == {"echo": "a town"}


def test_reasoning_limit_stop_refusal_logprobs_and_choices(client: Any) -> None:
    thought = client.chat.completions.create(**say("what is it", reasoning_effort="low"))
    assert thought.usage.completion_tokens_details.reasoning_tokens == 5
    assert thought.usage.completion_tokens == 8
    short = client.chat.completions.create(**say("one two three", max_completion_tokens=2))
    assert (short.choices[0].finish_reason, short.choices[0].message.content) == ("length", "one two ")
    stopped = client.chat.completions.create(**say("one two three", stop=["two"]))
    assert stopped.choices[0].message.content == "one "
    assert client.chat.completions.create(**say("refuse")).choices[0].message.refusal
    probable = client.chat.completions.create(**say("one two", logprobs=True, top_logprobs=1)).choices[0]
    assert [token.token for token in probable.logprobs.content] == ["one ", "two"]
    assert len(client.chat.completions.create(**say("x", n=3)).choices) == 3
    indexes = {chunk.choices[0].index for chunk in client.chat.completions.create(**say("x", n=2, stream=True))}
    assert indexes == {0, 1}


def test_prompts_are_cached_from_a_thousand_tokens(client: Any) -> None:
    long = [{"role": "system", "content": "word " * 1500}]
    first = client.chat.completions.create(model="gpt-4o-mini", messages=[*long, {"role": "user", "content": "a"}])
    second = client.chat.completions.create(model="gpt-4o-mini", messages=[*long, {"role": "user", "content": "b"}])
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens == 1408
    assert second.usage.prompt_tokens == 1501


def test_errors(client: Any, providers: Simulator) -> None:
    with pytest.raises(openai.AuthenticationError) as wrong:
        client.with_options(api_key="openai-key-99").chat.completions.create(**say("x"))
    assert wrong.value.code == "invalid_api_key" and wrong.value.request_id
    assert providers.last()["usage"]["input"] == 0
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**say("x") | {"model": "missing-model"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(**say("word " * 80) | {"model": "gpt-tiny"})
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="gpt-4o-mini", messages=[])
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            **say("x") | {"messages": [{"role": "tool", "content": "x", "tool_call_id": "y"}]}
        )
    for status, kind in ((409, openai.ConflictError), (429, openai.RateLimitError), (500, openai.InternalServerError)):
        providers.faults({"provider": "openai", "status": status})
        with pytest.raises(kind):
            client.chat.completions.create(**say("x"))


def test_responses(client: Any) -> None:
    first = client.responses.create(model="gpt-5-mini", input="hello there", instructions="be kind")
    assert first.output_text == "hello there"
    assert (first.usage.input_tokens, first.usage.output_tokens) == (4, 2)
    next_ = client.responses.create(model="gpt-5-mini", input="describe", previous_response_id=first.id)
    turns = json.loads(next_.output_text)["turns"]
    assert [turn["text"] for turn in turns] == ["hello there", "hello there", "describe"]
    third = client.responses.create(model="gpt-5-mini", input="describe", previous_response_id=next_.id)
    assert len(json.loads(third.output_text)["turns"]) == 5
    assert client.responses.retrieve(first.id).id == first.id
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as lost:
        client.responses.create(model="gpt-5-mini", input="x", previous_response_id=first.id)
    assert lost.value.code == "previous_response_not_found"
    assert client.responses.input_tokens.count(model="gpt-5-mini", input="a b c").input_tokens == 3


def test_responses_stream(client: Any) -> None:
    options = {"reasoning": {"effort": "low", "summary": "auto"}, "model": "gpt-5-mini"}
    with client.responses.stream(input="one two three", **options) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") == 3
    assert "response.reasoning_summary_text.delta" in kinds
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == list(range(len(events)))
    assert final.output_text == "one two three"
    assert final.output[0].summary[0].text == "thinking about: one two three"
    assert final.usage.output_tokens_details.reasoning_tokens == 5


def test_responses_tools_and_structure(client: Any) -> None:
    tool = {"type": "function", **TOOL["function"]}  # type: ignore[dict-item]
    with client.responses.stream(model="gpt-5-mini", input=ASKED, tools=[tool]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert sum(event.type == "response.function_call_arguments.delta" for event in events) > 6
    calls = [item for item in final.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Bern and its lakes", "Zürich"]
    outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "wet"} for call in calls]
    told = client.responses.create(model="gpt-5-mini", previous_response_id=final.id, input=outputs, tools=[tool])
    assert told.output_text == "result: wet\nwet"
    parsed = client.responses.parse(model="gpt-5-mini", input="a town", text_format=Place)
    assert parsed.output_parsed == Place(name="a town", people=2, tags=["a town"])


def test_the_rest_of_the_platform(client: Any) -> None:
    found = client.embeddings.create(model="text-embedding-3-small", input=["one two", "three"], dimensions=8)
    assert [len(one.embedding) for one in found.data] == [8, 8] and found.usage.prompt_tokens == 3
    again = client.embeddings.create(model="text-embedding-3-small", input="one two", dimensions=8)
    assert again.data[0].embedding == found.data[0].embedding
    names = [model.id for model in client.models.list()]
    assert "gpt-4o-mini" in names and client.models.retrieve("gpt-4o-mini").id == "gpt-4o-mini"
    heard = client.audio.transcriptions.create(model="whisper-1", file=("talk.wav", b"\x00\x01\r\n--x\r\n"))
    assert heard.text == "transcript of talk.wav 9"
    spoken = client.audio.speech.create(model="tts-1", voice="alloy", input="good day")
    assert spoken.read() == b"RIFFgood day"
    assert client.images.generate(model="gpt-image-1", prompt="a cat", n=2).data[1].b64_json
    edited = client.images.edit(model="gpt-image-1", prompt="a dog", image=("a.png", b"png"))
    assert edited.usage.input_tokens == 2
    line = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}).encode()
    stored = client.files.create(file=("in.jsonl", line), purpose="batch")
    assert client.files.content(stored.id).read() == line
    batch = client.batches.create(input_file_id=stored.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert client.batches.retrieve(batch.id).status == "completed"
    assert client.files.content(batch.output_file_id).read() == line
    assert [one.id for one in client.batches.list()] == [batch.id]
    assert client.batches.cancel(batch.id).status == "cancelled"
    assert client.files.delete(stored.id).deleted
    assert client.moderations.create(input="fine").results[0].flagged is False


def test_azure(providers: Simulator) -> None:
    client: Any = openai.AzureOpenAI(
        azure_endpoint=f"{providers.url}/azure", api_key="azure-key-1", api_version="2024-10-21", max_retries=0
    )
    answer = client.chat.completions.create(**say("hello there") | {"model": "my-deployment"})
    assert answer.choices[0].message.content == "hello there"
    assert answer.choices[0].content_filter_results["hate"]["severity"] == "safe"
    chunks = list(client.chat.completions.create(**say("hello there", stream=True) | {"model": "my-deployment"}))
    assert chunks[0].choices == [] and chunks[0].prompt_filter_results
    assert providers.last()["model"] == "my-deployment"
    assert client.embeddings.create(model="embedding", input="a").data[0].embedding
    newer: Any = openai.OpenAI(base_url=f"{providers.url}/azure/openai/v1", api_key="azure-key-2")
    assert newer.responses.create(model="my-deployment", input="hi").output_text == "hi"
    with pytest.raises(openai.AuthenticationError) as wrong:
        client.with_options(api_key="wrong").chat.completions.create(**say("x"))
    assert wrong.value.code == "401"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**say("x") | {"model": "missing"})
    assert missing.value.code == "DeploymentNotFound"


COMPATIBLE = {
    "mistral": ("/v1", "mistral-large-latest"),
    "groq": ("/openai/v1", "llama-3.3-70b-versatile"),
    "deepseek": ("", "deepseek-reasoner"),
    "xai": ("/v1", "grok-4"),
    "openrouter": ("/api/v1", "anthropic/claude-sonnet-4.5"),
    "together": ("/v1", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    "fireworks": ("/inference/v1", "accounts/fireworks/models/llama-v3p3-70b-instruct"),
    "ollama": ("/v1", "llama3.2"),
    "vllm": ("/v1", "meta-llama/Llama-3.1-8B-Instruct"),
    "cohere": ("/compatibility/v1", "command-a-03-2025"),
}


@pytest.mark.parametrize("name", COMPATIBLE)
def test_compatible_providers(providers: Simulator, name: str) -> None:
    base, model = COMPATIBLE[name]
    client: Any = openai.OpenAI(base_url=f"{providers.url}/{name}{base}", api_key=f"{name}-key-3", max_retries=0)
    answer = client.chat.completions.create(**say("hello there") | {"model": model})
    assert answer.choices[0].message.content == "hello there"
    options = {"stream": True, "stream_options": {"include_usage": True}, "reasoning_effort": "low"}
    chunks = list(client.chat.completions.create(**say("hello there", **options) | {"model": model}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "hello there"
    told = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(told) == 1
    assert told[0].total_tokens == 2 + 6 and told[0].completion_tokens == (2 if name == "xai" else 6)
    shown = [chunk for chunk in chunks if chunk.choices and "thinking" in str(chunk.choices[0].delta)]
    assert shown
    entry = providers.last()
    assert (entry["provider"], entry["model"]) == (name, model)
    assert (entry["usage"]["output"], entry["usage"]["reasoning"]) == (6, 4)
    called = list(client.chat.completions.create(**say(ASKED, tools=[TOOL], stream=True) | {"model": model}))
    pieces = [call for chunk in called if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    assert (len(pieces) == 2) == (name in ("mistral", "ollama"))
    if name != "cohere":
        assert model in [one.id for one in client.models.list()]
    if name != "ollama":
        wrong = client.with_options(api_key="nobody")
        expected = openai.BadRequestError if name == "xai" else openai.AuthenticationError
        with pytest.raises(expected):
            wrong.chat.completions.create(**say("x") | {"model": model})


def test_rerank_of_a_compatible_provider(providers: Simulator) -> None:
    body = {"model": "x/reranker", "query": "blue sea", "documents": ["red", "the blue sea", "blue"], "top_n": 2}
    found = httpx.post(
        f"{providers.url}/together/v1/rerank", json=body, headers={"authorization": "Bearer together-key-1"}
    ).json()
    assert [one["index"] for one in found["results"]] == [1, 2]

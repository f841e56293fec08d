"""The official `anthropic` SDK against the simulator."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import google.auth.transport.requests
import pytest
from google.oauth2 import service_account

from tests.providers.running import Simulator

MODEL = "claude-haiku-4-5"
TOOL = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ASKED = 'call weather({"city": "Bern and its lakes"}) and call weather({"city": "Genf"})'


@pytest.fixture
def client(providers: Simulator) -> Any:
    return anthropic.Anthropic(base_url=f"{providers.url}/anthropic", api_key="anthropic-key-1", max_retries=0)


def say(text: Any, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": text}], **more}


def test_messages(client: Any, providers: Simulator) -> None:
    raw = client.messages.with_raw_response.create(**say("hello big world", system="be brief"))
    assert raw.headers["request-id"] and raw.headers["anthropic-ratelimit-requests-remaining"]
    message = raw.parse()
    assert message.content[0].text == "hello big world"
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("end_turn", 5, 3)
    assert providers.last()["usage"]["input"] == 5


def test_stream(client: Any) -> None:
    with client.messages.stream(**say("one two three", thinking={"type": "enabled", "budget_tokens": 1024})) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    thinking, text = final.content
    assert (thinking.thinking, text.text) == ("thinking about: one two three", "one two three")
    assert thinking.signature and final.usage.output_tokens == 8
    assert final.usage.output_tokens_details.thinking_tokens == 5


def test_thinking_comes_back_with_its_signature(client: Any) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    first = client.messages.create(**say(ASKED, tools=[TOOL], thinking=thinking))
    assert [block.type for block in first.content] == ["thinking", "tool_use", "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "wet", "is_error": at == 2}
        for at, block in enumerate(first.content)
        if block.type == "tool_use"
    ]
    blocks = [block.model_dump(exclude_none=True) for block in first.content]
    turns = [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": results},
    ]
    told = client.messages.create(model=MODEL, max_tokens=100, messages=turns, tools=[TOOL])
    assert told.content[0].text == "result: wet\nerror: wet"
    blocks[0]["signature"] = "forged"
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model=MODEL, max_tokens=100, messages=turns, tools=[TOOL])
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model=MODEL, max_tokens=100, messages=turns[:2], tools=[TOOL])


def test_tools_in_pieces(client: Any) -> None:
    with client.messages.stream(**say(ASKED, tools=[TOOL])) as stream:
        pieces = [event for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert len(pieces) > 8
    assert final.stop_reason == "tool_use"
    assert [block.input["city"] for block in final.content] == ["Bern and its lakes", "Genf"]
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    forced = client.messages.create(**say("any", tools=[TOOL], tool_choice=choice))
    assert [block.input for block in forced.content] == [{"city": "any"}]


def test_blocks_limits_and_stops(client: Any) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}
    paper = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}
    seen = client.messages.create(**say([{"type": "text", "text": "look"}, image, paper]))
    assert seen.content[0].text == "look [image image/png 5] [document text/plain 3]"
    assert client.messages.create(**say("one two three") | {"max_tokens": 2}).stop_reason == "max_tokens"
    stopped = client.messages.create(**say("one two three", stop_sequences=["two"]))
    assert (stopped.stop_reason, stopped.stop_sequence, stopped.content[0].text) == ("stop_sequence", "two", "one ")
    assert client.messages.create(**say("refuse")).stop_reason == "refusal"


def test_structured_output(client: Any) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    form = {"format": {"type": "json_schema", "schema": schema}}
    assert json.loads(client.messages.create(**say("a town", output_config=form)).content[0].text) == {"name": "a town"}


def test_marked_prefixes_are_cached(client: Any, providers: Simulator) -> None:
    system = [{"type": "text", "text": "word " * 40, "cache_control": {"type": "ephemeral"}}]
    first = client.messages.create(**say("a b", system=system)).usage
    second = client.messages.create(**say("c d", system=system)).usage
    told = [(one.input_tokens, one.cache_creation_input_tokens, one.cache_read_input_tokens) for one in (first, second)]
    assert told == [(2, 40, 0), (2, 0, 40)]
    assert providers.last()["usage"] == {"input": 42, "output": 2, "cached_read": 40, "cached_write": 0, "reasoning": 0}


def test_counting_and_models(client: Any) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "a b c"}], tools=[TOOL])
    assert counted.input_tokens == 6
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def test_errors(client: Any, providers: Simulator) -> None:
    with pytest.raises(anthropic.AuthenticationError) as wrong:
        client.with_options(api_key="nobody").messages.create(**say("x"))
    assert wrong.value.body["error"]["type"] == "authentication_error"
    assert wrong.value.request_id == wrong.value.body["request_id"]
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**say("x") | {"model": "missing"})
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(**say("word " * 80) | {"model": "claude-tiny"})
    providers.faults({"status": 529})
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        client.messages.create(**say("x"))
    assert overloaded.value.status_code == 529
    assert overloaded.value.body["error"]["type"] == "overloaded_error"
    providers.faults({"first": 1, "status": 429, "headers": {"retry-after": "0.01"}})
    assert client.with_options(max_retries=1).messages.create(**say("again")).content[0].text == "again"
    providers.faults({"error_after": 1, "error_status": 529, "message": "too busy"})
    with pytest.raises(anthropic.APIStatusError, match="too busy"):
        list(client.messages.create(**say("a b c", stream=True)))


def test_vertex(providers: Simulator) -> None:
    account = providers.ask("GET", "/__service-account")
    maker: Any = service_account.Credentials
    credentials = maker.from_service_account_info(account, scopes=["https://example.com/auth/cloud"])
    credentials.refresh(google.auth.transport.requests.Request())
    token = credentials.token
    client: Any = anthropic.AnthropicVertex(
        region="europe-west1", project_id="simulated", access_token=token, base_url=f"{providers.url}/vertex/v1"
    )
    assert client.messages.create(**say("hello there")).content[0].text == "hello there"
    with client.messages.stream(**say("hello there")) as stream:
        assert stream.get_final_text() == "hello there"
    assert providers.last()["provider"] == "vertex"

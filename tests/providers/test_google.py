"""The official `google-genai` SDK against the simulator: Gemini, and Vertex with a service account."""

from __future__ import annotations

import json
from typing import Any

import google.auth.transport.requests
import httpx
import pytest
from google import genai
from google.genai import errors, types
from google.oauth2 import service_account
from pydantic import BaseModel

from tests.providers.running import Simulator

MODEL = "gemini-2.5-flash"
WEATHER: Any = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}},
        )
    ]
)
ASKED = 'call weather({"city": "Bern"}) and call weather({"city": "Genf"})'
SCOPE = "https://example.com/auth/cloud-platform"


def refreshed(credentials: Any) -> str:
    credentials.refresh(google.auth.transport.requests.Request())
    return str(credentials.token)


@pytest.fixture
def client(providers: Simulator) -> Any:
    return genai.Client(api_key="gemini-key-1", http_options={"base_url": f"{providers.url}/gemini"})


def test_generate(client: Any, providers: Simulator) -> None:
    config = types.GenerateContentConfig(system_instruction="be brief")
    answer = client.models.generate_content(model=MODEL, contents="hello big world", config=config)
    assert answer.text == "hello big world"
    assert answer.candidates[0].finish_reason == "STOP"
    told = answer.usage_metadata
    assert (told.prompt_token_count, told.candidates_token_count, told.total_token_count) == (5, 3, 8)
    assert (providers.last()["key"], providers.last()["model"]) == ("gemini-key-1", MODEL)


def test_stream(client: Any) -> None:
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    chunks = list(client.models.generate_content_stream(model=MODEL, contents="one two three", config=config))
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert "".join(part.text for part in parts if part.thought) == "thinking about: one two three"
    assert "".join(part.text for part in parts if not part.thought) == "one two three"
    told = chunks[-1].usage_metadata
    assert (told.candidates_token_count, told.thoughts_token_count) == (3, 5)
    assert chunks[-1].candidates[0].finish_reason == "STOP"


def test_a_stream_without_sse_is_an_array(providers: Simulator) -> None:
    url = f"{providers.url}/gemini/v1beta/models/{MODEL}:streamGenerateContent?key=gemini-key-2"
    answer = httpx.post(url, json={"contents": [{"parts": [{"text": "one two"}]}]})
    assert answer.headers["content-type"].startswith("application/json")
    texts = [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in answer.json()]
    assert "".join(texts) == "one two"


def test_tools(client: Any) -> None:
    config = types.GenerateContentConfig(tools=[WEATHER])
    answer = client.models.generate_content(model=MODEL, contents=ASKED, config=config)
    assert [(call.name, call.args["city"]) for call in answer.function_calls] == [
        ("weather", "Bern"),
        ("weather", "Genf"),
    ]
    results = [types.Part.from_function_response(name="weather", response={"result": "wet"})] * 2
    contents = [types.UserContent(ASKED), answer.candidates[0].content, types.Content(role="user", parts=results)]
    told = client.models.generate_content(model=MODEL, contents=contents, config=config)
    assert told.text == "result: wet\nwet"
    streamed = list(client.models.generate_content_stream(model=MODEL, contents=ASKED, config=config))
    assert sum(len(chunk.function_calls or []) for chunk in streamed) == 2


def test_thought_signatures(client: Any) -> None:
    config = types.GenerateContentConfig(tools=[WEATHER], thinking_config=types.ThinkingConfig(thinking_budget=100))
    content = client.models.generate_content(model=MODEL, contents=ASKED, config=config).candidates[0].content
    assert content.parts[0].thought_signature
    reply = types.Content(
        role="user", parts=[types.Part.from_function_response(name="weather", response={"result": "wet"})] * 2
    )
    contents = [types.UserContent(ASKED), content, reply]
    assert client.models.generate_content(model=MODEL, contents=contents, config=config).text == "result: wet\nwet"
    content.parts[0].thought_signature = b"forged"
    with pytest.raises(errors.ClientError):
        client.models.generate_content(model=MODEL, contents=contents, config=config)


class Place(BaseModel):
    name: str
    people: int


def test_structured_output_and_limits(client: Any) -> None:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Place)
    answer = client.models.generate_content(model=MODEL, contents="a town", config=config)
    assert answer.parsed == Place(name="a town", people=2)
    short = types.GenerateContentConfig(max_output_tokens=2)
    answer = client.models.generate_content(model=MODEL, contents="one two three", config=short)
    assert (answer.text, answer.candidates[0].finish_reason) == ("one two ", "MAX_TOKENS")
    refused = client.models.generate_content(model=MODEL, contents="refuse")
    assert refused.candidates[0].finish_reason == "SAFETY"
    image = types.Part.from_bytes(data=b"\xff\xfe\xfb\xef", mime_type="image/png")
    seen = client.models.generate_content(model=MODEL, contents=["look", image])
    assert seen.text == "look [image image/png 4]"


def test_counting_embedding_models(client: Any) -> None:
    assert client.models.count_tokens(model=MODEL, contents="a b c").total_tokens == 3
    found = client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"])
    assert [len(one.values) for one in found.embeddings] == [16, 16]
    assert f"models/{MODEL}" in [model.name for model in client.models.list()]


def test_errors(client: Any, providers: Simulator) -> None:
    wrong = genai.Client(api_key="nobody", http_options={"base_url": f"{providers.url}/gemini"})
    with pytest.raises(errors.ClientError) as refused:
        wrong.models.generate_content(model=MODEL, contents="x")
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    assert "API_KEY_INVALID" in json.dumps(refused.value.details)
    with pytest.raises(errors.ClientError) as missing:
        client.models.generate_content(model="missing", contents="x")
    assert (missing.value.code, missing.value.status) == (404, "NOT_FOUND")
    providers.faults({"status": 429})
    with pytest.raises(errors.ClientError) as limited:
        client.models.generate_content(model=MODEL, contents="x")
    assert limited.value.status == "RESOURCE_EXHAUSTED"
    providers.faults({"status": 503})
    with pytest.raises(errors.ServerError):
        client.models.generate_content(model=MODEL, contents="x")


def test_vertex_with_a_service_account(providers: Simulator) -> None:
    account = providers.ask("GET", "/__service-account")
    maker: Any = service_account.Credentials
    credentials = maker.from_service_account_info(account, scopes=[SCOPE])
    client: Any = genai.Client(
        vertexai=True,
        project="simulated",
        location="europe-west1",
        credentials=credentials,
        http_options={"base_url": f"{providers.url}/vertex", "api_version": "v1"},
    )
    assert client.models.generate_content(model=MODEL, contents="hello there").text == "hello there"
    chunks = list(client.models.generate_content_stream(model=MODEL, contents="hello there"))
    assert "".join(chunk.text or "" for chunk in chunks) == "hello there"
    entry = providers.last()
    assert entry["key"].startswith("ya29.") and entry["provider"] == "vertex"
    path = f"{providers.url}/vertex/v1/projects/p/locations/l/publishers/google/models/{MODEL}:generateContent"
    refused = httpx.post(path, json={}, headers={"authorization": "Bearer ya29.forged"})
    assert (refused.status_code, refused.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_the_token_endpoint_refuses_what_is_not_signed_by_its_account(providers: Simulator) -> None:
    account = providers.ask("GET", "/__service-account")
    maker: Any = service_account.Credentials
    with pytest.raises(google.auth.exceptions.RefreshError, match="issuer, audience or scope"):
        refreshed(maker.from_service_account_info(account | {"client_email": "other@example.com"}, scopes=[SCOPE]))
    with Simulator() as other:
        key = other.ask("GET", "/__service-account")["private_key"]
    with pytest.raises(google.auth.exceptions.RefreshError, match="signature"):
        refreshed(maker.from_service_account_info(account | {"private_key": key}, scopes=[SCOPE]))


def test_tokens_expire() -> None:
    with Simulator("--token-life", "0") as short:
        account = short.ask("GET", "/__service-account")
        maker: Any = service_account.Credentials
        token = refreshed(maker.from_service_account_info(account, scopes=[SCOPE]))
        path = f"{short.url}/vertex/v1/projects/p/locations/l/publishers/google/models/{MODEL}:generateContent"
        assert httpx.post(path, json={}, headers={"authorization": f"Bearer {token}"}).status_code == 401

"""boto3 against the simulator: its signer is not ours, so that both are checked by each other."""

from __future__ import annotations

import json
from typing import Any

import boto3
import botocore.exceptions
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests.providers.event_stream import frame, frames
from tests.providers.running import Simulator

MODEL = "amazon.nova-lite-v1:0"
ASKED = 'call weather({"city": "Bern and its lakes"}) and call weather({"city": "Genf"})'
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}]}


def connect(providers: Simulator, access: str = "AKIDBEDROCK1", secret: str = "bedrock-secret-1", **more: Any) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="eu-central-1",
        endpoint_url=f"{providers.url}/bedrock",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
        **more,
    )


@pytest.fixture
def client(providers: Simulator) -> Any:
    return connect(providers)


def user(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


def test_converse(client: Any, providers: Simulator) -> None:
    answer = client.converse(modelId=MODEL, messages=user({"text": "hello big world"}), system=[{"text": "be brief"}])
    assert answer["output"]["message"]["content"] == [{"text": "hello big world"}]
    assert answer["stopReason"] == "end_turn"
    assert answer["usage"] == {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}
    assert answer["ResponseMetadata"]["RequestId"]
    assert (providers.last()["model"], providers.last()["key"]) == (MODEL, "AKIDBEDROCK1")


def test_model_names_with_slashes(client: Any, providers: Simulator) -> None:
    name = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0"
    client.converse(modelId=name, messages=user({"text": "x"}))
    assert providers.last()["model"] == name


def test_stream_with_reasoning(client: Any) -> None:
    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    answer = client.converse_stream(
        modelId=MODEL, messages=user({"text": "one two"}), additionalModelRequestFields=more
    )
    events = list(answer["stream"])
    assert "messageStart" in events[0] and "metadata" in events[-1]
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    assert "".join(delta["text"] for delta in deltas if "text" in delta) == "one two"
    thought = [delta["reasoningContent"] for delta in deltas if "reasoningContent" in delta]
    assert "".join(part.get("text", "") for part in thought) == "thinking about: one two"
    assert thought[-1]["signature"]
    assert events[-1]["metadata"]["usage"]["outputTokens"] == 6


def test_tools(client: Any) -> None:
    events = list(client.converse_stream(modelId=MODEL, messages=user({"text": ASKED}), toolConfig=TOOLS)["stream"])
    inputs: dict[int, str] = {}
    for event in events:
        if "contentBlockDelta" in event:
            told = event["contentBlockDelta"]
            at = told["contentBlockIndex"]
            inputs[at] = inputs.get(at, "") + told["delta"]["toolUse"]["input"]
    assert [json.loads(text)["city"] for text in inputs.values()] == ["Bern and its lakes", "Genf"]
    whole = client.converse(modelId=MODEL, messages=user({"text": ASKED}), toolConfig=TOOLS)
    message = whole["output"]["message"]
    assert whole["stopReason"] == "tool_use" and len(message["content"]) == 2
    results = [
        {"toolResult": {"toolUseId": block["toolUse"]["toolUseId"], "content": [{"json": {"sky": "grey"}}]}}
        for block in message["content"]
    ]
    turns = [*user({"text": ASKED}), message, *user(*results)]
    told = client.converse(modelId=MODEL, messages=turns, toolConfig=TOOLS)
    assert told["output"]["message"]["content"][0]["text"] == 'result: {"sky":"grey"}\n{"sky":"grey"}'
    with pytest.raises(client.exceptions.ValidationException):
        client.converse(modelId=MODEL, messages=[*turns[:2], *user({"text": "no result"})], toolConfig=TOOLS)


def test_blocks_structure_and_cache(client: Any) -> None:
    image = {"image": {"format": "png", "source": {"bytes": b"hello"}}}
    paper = {"document": {"format": "pdf", "name": "paper", "source": {"bytes": b"%PDF"}}}
    seen = client.converse(modelId=MODEL, messages=user({"text": "look"}, image, paper))
    text = seen["output"]["message"]["content"][0]["text"]
    assert text == "look [image image/png 5] [document application/pdf 4]"
    structure = {"jsonSchema": {"schema": json.dumps(SCHEMA)}}
    form = {"textFormat": {"type": "json_schema", "structure": structure}}
    told = client.converse(modelId=MODEL, messages=user({"text": "a town"}), outputConfig=form)
    assert json.loads(told["output"]["message"]["content"][0]["text"]) == {"city": "a town"}
    system = [{"text": "word " * 30}, {"cachePoint": {"type": "default"}}]
    usages = [client.converse(modelId=MODEL, messages=user({"text": "a"}), system=system)["usage"] for _ in "12"]
    assert [(one["inputTokens"], one["cacheReadInputTokens"], one["cacheWriteInputTokens"]) for one in usages] == [
        (1, 0, 30),
        (1, 30, 0),
    ]


def test_counting_and_embedding(client: Any) -> None:
    counted = client.count_tokens(modelId=MODEL, input={"converse": {"messages": user({"text": "a b c"})}})
    assert counted["inputTokens"] == 3
    body = json.dumps({"inputText": "a b", "dimensions": 8})
    found = json.loads(client.invoke_model(modelId="amazon.titan-embed-text-v2:0", body=body)["body"].read())
    assert (len(found["embedding"]), found["inputTextTokenCount"]) == (8, 2)


def test_credentials(providers: Simulator) -> None:
    asked = {"modelId": MODEL, "messages": user({"text": "x"})}
    for access, secret, code in (
        ("AKIDBEDROCK1", "bedrock-secret-2", "InvalidSignatureException"),
        ("AKIDNOBODY", "x", "UnrecognizedClientException"),
    ):
        with pytest.raises(botocore.exceptions.ClientError) as wrong:
            connect(providers, access, secret).converse(**asked)
        told = wrong.value.response
        assert (told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"]) == (code, 403)
    assert connect(providers, "AKIDBEDROCK2", "bedrock-secret-2", aws_session_token="t").converse(**asked)
    url = f"{providers.url}/bedrock/model/{MODEL}/converse"
    bearer = httpx.post(url, json=asked, headers={"authorization": "Bearer bedrock-key-1"})
    assert bearer.status_code == 200
    assert httpx.post(url, json=asked).headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"


def test_a_signature_covers_the_body_and_the_headers(providers: Simulator) -> None:
    url = f"{providers.url}/bedrock/model/{MODEL.replace(':', '%3A')}/converse"
    body = json.dumps({"messages": user({"text": "x"})})
    request = AWSRequest("POST", url, data=body, headers={"content-type": "application/json"})
    SigV4Auth(Credentials("AKIDBEDROCK1", "bedrock-secret-1"), "bedrock", "eu-central-1").add_auth(request)
    headers = dict(request.headers.items())
    assert httpx.post(url, content=body, headers=headers).status_code == 200
    changed = httpx.post(url, content=body.replace("x", "y"), headers=headers)
    assert changed.headers["x-amzn-errortype"] == "InvalidSignatureException"
    unsigned = httpx.post(url, content=body, headers=headers | {"x-amz-security-token": "t"})
    assert unsigned.headers["x-amzn-errortype"] == "InvalidSignatureException"
    elsewhere = httpx.post(url.replace("lite", "pro"), content=body, headers=headers)
    assert elsewhere.headers["x-amzn-errortype"] == "InvalidSignatureException"


def test_errors_whole_and_in_the_stream(client: Any, providers: Simulator) -> None:
    asked = {"modelId": MODEL, "messages": user({"text": "one two three"})}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.converse(**asked | {"modelId": "missing"})
    providers.faults({"status": 429})
    with pytest.raises(client.exceptions.ThrottlingException):
        client.converse(**asked)
    providers.faults({"error_after": 2, "error_status": 429})
    with pytest.raises(botocore.exceptions.EventStreamError, match="throttlingException"):
        list(client.converse_stream(**asked)["stream"])
    providers.faults({"malformed": 1})
    with pytest.raises(botocore.eventstream.ChecksumMismatch):
        list(client.converse_stream(**asked)["stream"])


def test_frames_read_back_and_refuse_damage() -> None:
    stream = frame({":event-type": "a"}, b"{}") + frame({}, b"")
    assert frames(stream) == [({":event-type": "a"}, b"{}"), ({}, b"")]
    for damaged in (stream[:-1], stream[:9] + b"\xff" + stream[10:], stream[:-3] + b"\x00" + stream[-2:]):
        with pytest.raises(ValueError):
            frames(damaged)

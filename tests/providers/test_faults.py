"""Every fault does what it says, seen from the socket, and the ledger tells of it."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from tests.providers.running import ROOT, Simulator

HEADERS = {"authorization": "Bearer openai-key-1"}


def ask(text: str = "one two three", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {
        "model": "gpt-4o-mini",
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    } | more


def post(providers: Simulator, **more: Any) -> httpx.Response:
    return httpx.post(f"{providers.url}/openai/v1/chat/completions", json=ask(**more), headers=HEADERS)


def raw(providers: Simulator, **more: Any) -> tuple[bytes, bool]:
    """The octets of an answer up to the end of the connection, and whether that was a reset."""
    where = urlsplit(providers.url)
    body = json.dumps(ask(**more)).encode()
    with socket.create_connection((where.hostname, where.port), 10) as client:
        client.sendall(
            b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            b"authorization: Bearer openai-key-1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        found = b""
        try:
            while piece := client.recv(65536):
                found += piece
        except ConnectionResetError:
            return found, True
        return found, False


def data(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def test_delays(providers: Simulator) -> None:
    providers.faults({"delay_head": 80, "delay_first": 60, "delay_delta": 40})
    url = f"{providers.url}/openai/v1/chat/completions"
    times = []
    began = time.monotonic()
    with httpx.stream("POST", url, json=ask(), headers=HEADERS) as answer:
        head = time.monotonic() - began
        for line in answer.iter_lines():
            if '"content":"' in line and '"content":""' not in line:
                times.append(time.monotonic() - began)
    assert head >= 0.078
    assert times[0] >= 0.136 and times[1] >= 0.174 and times[2] >= 0.212
    assert providers.last()["first_ms"] >= 78


def test_refusals_with_headers(providers: Simulator) -> None:
    providers.faults({"status": 429, "nth": [1, 3], "headers": {"retry-after": "7", "x-should-retry": "false"}})
    told = [post(providers) for _ in range(3)]
    assert [one.status_code for one in told] == [429, 200, 429]
    assert told[0].headers["retry-after"] == "7" and told[0].json()["error"]["code"] == "rate_limit_exceeded"
    assert providers.ask("GET", "/__faults")[0]["seen"] == 3
    providers.faults({"status": 503, "every": 2, "body": "<html>", "message": "m"})
    assert [post(providers).status_code for _ in range(4)] == [200, 503, 200, 503]
    assert post(providers).status_code == 200 and post(providers).text == "<html>"


def test_retry_after_is_obeyed_by_the_sdk(providers: Simulator) -> None:
    providers.faults({"status": 429, "first": 1, "headers": {"retry-after-ms": "1200"}})
    client: Any = openai.OpenAI(base_url=f"{providers.url}/openai/v1", api_key="openai-key-1", max_retries=1)
    began = time.monotonic()
    client.chat.completions.create(**ask(stream=False, stream_options=None))
    # Left to itself it would wait for half a second.
    assert time.monotonic() - began >= 1.19
    assert [entry["status"] for entry in providers.ledger()] == [429, 200]


def test_conditions(providers: Simulator) -> None:
    providers.faults({"provider": "openai", "model": "gpt-5*", "stream": False, "key": "openai-key-1", "status": 500})
    assert post(providers).status_code == 200
    assert post(providers, model="gpt-5-mini").status_code == 200
    assert post(providers, model="gpt-5-mini", stream=False).status_code == 500


def test_cuts(providers: Simulator) -> None:
    providers.faults({"cut_deltas": 2})
    octets, reset = raw(providers)
    assert not reset and not octets.endswith(b"0\r\n\r\n") and octets.count(b'"content":"') == 3
    entry = providers.last()
    assert entry["cut"] and not entry["finished"] and not entry["gone"]
    assert (entry["deltas"], entry["sent"]["output"], entry["usage"]["output"]) == (2, 2, 3)
    providers.faults({"cut_deltas": 2, "cut_by": "reset", "delay_delta": 20})
    octets, reset = raw(providers)
    assert reset
    providers.faults({"cut_deltas": 2, "cut_by": "clean"})
    octets, reset = raw(providers)
    assert octets.endswith(b"0\r\n\r\n") and b"[DONE]" not in octets
    providers.faults({"cut_bytes": 100})
    whole, _ = raw(providers, stream=False)
    assert len(whole.partition(b"\r\n\r\n")[2]) == 100
    assert providers.last()["cut"]
    streamed, _ = raw(providers)
    assert b"\r\n64\r\n" in streamed and len(streamed.partition(b"\r\n64\r\n")[2]) == 102


def test_no_answer(providers: Simulator) -> None:
    providers.faults({"drop": True})
    assert raw(providers) == (b"", True)
    providers.faults({"hang": True})
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{providers.url}/openai/v1/chat/completions", json=ask(), headers=HEADERS, timeout=0.2)
    entry = providers.last()
    assert entry["gone"] and entry["status"] == 0 and entry["usage"]["output"] == 0


def test_error_event(providers: Simulator) -> None:
    providers.faults({"error_after": 2, "error_status": 503, "message": "sorry"})
    lines = data(post(providers).text)
    assert json.loads(lines[-1])["error"]["message"] == "sorry"
    assert providers.last()["sent"]["output"] == 2


def test_malformed(providers: Simulator) -> None:
    providers.faults({"malformed": 2})
    broken = []
    for line in data(post(providers).text)[:-1]:
        try:
            json.loads(line)
        except ValueError:
            broken.append(line)
    assert len(broken) == 1
    with pytest.raises(ValueError):
        post(providers, stream=False).json()


def test_usage_and_done(providers: Simulator) -> None:
    def usages(**more: Any) -> list[int]:
        lines = [json.loads(line) for line in data(post(providers, **more).text) if line != "[DONE]"]
        return [line["usage"]["completion_tokens"] for line in lines if line.get("usage")]

    assert usages() == [3]
    providers.faults({"usage": "omit"})
    assert usages() == []
    assert "usage" not in post(providers, stream=False).json()
    providers.faults({"usage": "repeat"})
    assert usages() == [0, 1, 2, 3, 3, 3, 3]
    providers.faults({"done": False})
    octets, _ = raw(providers)
    assert b"[DONE]" not in octets and octets.endswith(b"0\r\n\r\n")


def test_framing(providers: Simulator) -> None:
    whole = "".join(data(post(providers, text="a b").text))
    providers.faults({"write": 1})
    octets, _ = raw(providers, text="a b")
    assert octets.count(b"\r\n1\r\n") > 500
    assert len("".join(data(post(providers, text="a b").text))) == len(whole)
    providers.faults({"newline": "crlf", "comments": True, "bom": True, "no_space": True})
    text = post(providers).content
    assert text.startswith(b"\xef\xbb\xbf: keep going\r\ndata:{") and text.endswith(b"data:[DONE]\r\n\r\n")
    assert text.replace(b"\r\n", b"").count(b"\n") == 0
    providers.faults({"newline": "cr"})
    assert b"\n" not in post(providers).content
    providers.faults({"multiline": True, "comments": True, "newline": "crlf"})
    client: Any = openai.OpenAI(base_url=f"{providers.url}/openai/v1", api_key="openai-key-1", max_retries=0)
    chunks = list(client.chat.completions.create(**ask()))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two three"


def test_a_client_that_leaves_is_noticed(providers: Simulator) -> None:
    providers.faults({"delay_delta": 20})
    url = f"{providers.url}/openai/v1/chat/completions"
    with httpx.stream("POST", url, json=ask("count to 1000"), headers=HEADERS) as answer:
        for at, _ in enumerate(answer.iter_lines()):
            if at == 8:
                break
    left = time.time()
    entry = providers.last()
    assert entry["gone"] and not entry["finished"]
    assert 0 < entry["sent"]["output"] < 100 and entry["usage"]["output"] == 1000
    assert abs(entry["started"] + entry["ended_ms"] / 1000 - left) < 0.5
    sums = providers.ask("GET", "/__ledger/sums")
    assert sums["total"]["gone"] == 1 and sums["total"]["sent_output"] == entry["sent"]["output"]


def test_the_ledger_keeps_the_octets_of_a_request(providers: Simulator) -> None:
    body = '{"messages":[{"role":"user","content":"h\\u00e9"}] ,  "model":"gpt-4o-mini","zzz":1}'
    httpx.post(f"{providers.url}/openai/v1/chat/completions", content=body, headers=HEADERS | {"x-seen": "yes"})
    entry = providers.last(full=True)
    assert entry["body"] == body and ["x-seen", "yes"] in entry["headers"]
    assert "body" not in providers.ledger()[0]


def test_rules_that_are_none_are_refused(providers: Simulator) -> None:
    for rules in ({"statsu": 429}, {"status": "429"}, {"newline": "lfcr"}, {"nth": "first"}, "x"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            providers.ask("PUT", "/__faults", [rules])
        assert refused.value.code == 400
    assert providers.ask("GET", "/__faults") == []


def test_bad_requests(providers: Simulator) -> None:
    url = f"{providers.url}/openai/v1/chat/completions"
    assert httpx.post(url, content=b"{", headers=HEADERS).status_code == 400
    assert httpx.post(url, json={"model": "gpt-4o-mini", "messages": [1]}, headers=HEADERS).status_code == 400
    assert httpx.post(url, json=ask(tools=[7]), headers=HEADERS).status_code == 400
    assert httpx.get(url, headers=HEADERS).status_code == 405
    assert httpx.get(f"{providers.url}/openai/v1/nothing", headers=HEADERS).status_code == 404
    assert httpx.get(f"{providers.url}/nobody/v1").status_code == 404
    where = urlsplit(providers.url)
    with socket.create_connection((where.hostname, where.port), 10) as client:
        client.sendall(b"HELLO\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_chunked_and_pipelined_requests(providers: Simulator) -> None:
    where = urlsplit(providers.url)
    body = json.dumps(ask(stream=False, stream_options=None)).encode()
    head = b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer openai-key-1\r\n"
    chunked = head + b"transfer-encoding: chunked\r\n\r\n"
    chunked += b"".join(b"1;x=y\r\n%c\r\n" % octet for octet in body) + b"0\r\nx-trailer: 1\r\n\r\n"
    plain = head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection((where.hostname, where.port), 10) as client:
        client.sendall(chunked + plain)
        found = b""
        while piece := client.recv(65536):
            found += piece
    assert found.count(b"HTTP/1.1 200 OK") == 2 and found.count(b'"one two three"') == 2


def test_it_knows_nothing_of_pygate() -> None:
    for module in Path(ROOT, "tests", "providers").glob("*.py"):
        text = module.read_text()
        assert ("import py" + "gate") not in text and ("from py" + "gate") not in text, module


STREAMS: dict[str, tuple[str, dict[str, str], dict[str, Any], bytes, bytes]] = {
    "openai": ("/v1/chat/completions", HEADERS, ask(), b"[DONE]", b'"prompt_tokens"'),
    "anthropic": (
        "/v1/messages",
        {"x-api-key": "anthropic-key-1", "anthropic-version": "2023-06-01"},
        {"model": "claude-x", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "a b"}]},
        b"message_stop",
        b'"input_tokens"',
    ),
    "gemini": (
        "/v1beta/models/gemini-x:streamGenerateContent?alt=sse",
        {"x-goog-api-key": "gemini-key-1"},
        {"contents": [{"parts": [{"text": "a b"}]}]},
        b"finishReason",
        b"usageMetadata",
    ),
    "bedrock": (
        "/model/amazon.x/converse-stream",
        {"authorization": "Bearer bedrock-key-1"},
        {"messages": [{"role": "user", "content": [{"text": "a b"}]}]},
        b"messageStop",
        b"inputTokens",
    ),
    "cohere": (
        "/v2/chat",
        {"authorization": "Bearer cohere-key-1"},
        {"model": "command-x", "stream": True, "messages": [{"role": "user", "content": "a b"}]},
        b"message-end",
        b"input_tokens",
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_dialect_can_lack_its_end_and_its_usage(providers: Simulator, name: str) -> None:
    path, headers, body, end, usage = STREAMS[name]

    def stream() -> bytes:
        answer = httpx.post(f"{providers.url}/{name}{path}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.content

    whole = stream()
    assert end in whole and usage in whole
    providers.faults({"done": False})
    assert end not in stream()
    assert providers.last()["finished"]
    providers.faults({"usage": "omit"})
    assert end in stream() and usage not in stream()
    providers.faults({"cut_deltas": 1, "cut_by": "clean"})
    assert end not in stream()
    assert providers.last()["cut"] and providers.last()["sent"]["output"] == 1
    providers.faults({"error_after": 1, "message": "sorry"})
    assert b"sorry" in stream()

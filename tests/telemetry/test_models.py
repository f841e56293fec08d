"""A real gateway before simulated providers and a real collector: calls of models come out by the GenAI conventions."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.control.conftest import gateway as running
from tests.control.conftest import upstream
from tests.control.running import Gateway
from tests.providers.running import Simulator
from tests.telemetry.receiver import HttpReceiver, plain, wait_for

__all__ = ["running", "upstream"]

SECRET = "the wombat sings at dawn"

CONFIG = """
[telemetry]
otlp = "{collector}"
sample = 1.0
metrics_interval = "200ms"
logs = "all"

[ai.providers.claude]
kind = "anthropic"
base_url = "{providers}/anthropic"
credentials = {{ main = "env:CLAUDE_KEY" }}

[ai.providers.gpt]
kind = "openai"
base_url = "{providers}/openai/v1"
credentials = {{ main = "env:GPT_KEY" }}

[ai.models.odd]
targets = ["gpt/gpt-0"]

[ai.models.smart]
targets = [
    {{ provider = "claude", model = "claude-sonnet-5" }},
    {{ provider = "gpt", model = "gpt-5", priority = 1 }},
]

[[routes]]
name = "models"
priority = 1000
match = {{ path = "/v1/**" }}
llm = {{ keys = "off" }}
"""


@pytest.fixture
def collector() -> Iterator[HttpReceiver]:
    collector = HttpReceiver()
    yield collector
    collector.stop()


def chat(port: int, **asked: Any) -> bytes:
    body = {"model": "smart", "messages": [{"role": "user", "content": SECRET}], **asked}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    connection.close()
    return text


def test_calls_of_models_come_out_by_convention(running: Gateway, collector: HttpReceiver) -> None:
    received = collector.received
    with Simulator() as providers:
        running.write(CONFIG.format(collector=collector.url, providers=providers.url))
        running.start({"CLAUDE_KEY": "anthropic-key-1", "GPT_KEY": "openai-key-1"})
        wait_for(lambda: bool(received.metrics()))
        whole = json.loads(chat(running.port))
        providers.faults({"provider": "anthropic", "first": 1, "status": 529})
        assert b"[DONE]" in chat(running.port, stream=True)
        wait_for(lambda: len(received.spans()) >= 4 and "pygate.ai.cost" in received.metrics())

        def counted() -> dict[str, int]:
            metric = received.metrics()["gen_ai.client.operation.duration"]
            return {plain(p.attributes)["gen_ai.provider.name"]: p.count for p in metric.histogram.data_points}

        wait_for(lambda: counted() == {"anthropic": 1, "openai": 1})
    assert "no price of `gpt/gpt-0` is known" in running.log, "a model without a price is told when it is served"

    legs = [plain(s.attributes) | {"name": s.name} for s in received.spans() if s.kind == 3]
    first, second = sorted(legs, key=lambda leg: str(leg["gen_ai.provider.name"]))
    assert (first["name"], first["gen_ai.response.model"]) == ("chat smart", "claude-sonnet-5")
    assert first["gen_ai.usage.input_tokens"] == whole["usage"]["prompt_tokens"]
    assert first["gen_ai.usage.output_tokens"] == whole["usage"]["completion_tokens"]
    assert (second["gen_ai.response.model"], second["gen_ai.request.stream"]) == ("gpt-5", True)
    assert second["http.request.resend_count"] == 1 and second["gen_ai.response.time_to_first_chunk"] > 0
    costs = {
        plain(p.attributes)["pygate.ai.provider"]: p.as_double
        for p in received.metrics()["pygate.ai.cost"].sum.data_points
    }
    assert set(costs) == {"claude", "gpt"} and all(cost > 0 for cost in costs.values())
    entrance = [plain(s.attributes) for s in received.spans() if s.kind == 2]
    assert all(span["pygate.ai.end"] == "clean" and span["pygate.ai.cost"] > 0 for span in entrance)

    everything = b"".join(r.SerializeToString() for requests in received.requests.values() for r in requests)
    for hidden in (SECRET, "wombat", "anthropic-key-1", "openai-key-1"):
        assert hidden.encode() not in everything

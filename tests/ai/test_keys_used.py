"""From a call of a model to its usage: a real gateway, a simulated provider, the command line."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from tests.ai.test_keys_in_force import pygate
from tests.control.running import Gateway, wait_for
from tests.providers.running import Simulator

CONFIG = """
[ai.providers.openai]
kind = "openai"
base_url = "{url}/openai/v1"
credentials = {{ main = "env:PYGATE_TEST_KEY" }}
[ai.models.fast]
targets = ["openai/gpt-5-mini"]
[ai.prices]
"openai/gpt-5-mini" = {{ input = "0.25", output = "2.00", cached_read = "0.025" }}
[[routes]]
name = "models"
match = {{ path = "/v1/**" }}
llm = {{}}
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def chat(gateway: Gateway, key: str, model: str = "fast") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    body = {"model": model, "messages": [{"role": "user", "content": "hello there"}]}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    answer.read()
    connection.close()
    return answer.status


def test_calls_are_counted_limited_and_told(gateway: Gateway, provider: Simulator) -> None:
    gateway.write(CONFIG.format(url=provider.url))
    gateway.start({"PYGATE_TEST_KEY": "openai-key-1"})
    pygate(gateway, "teams", "create", "platform", "--limit", "requests:month:4")
    key = pygate(gateway, "keys", "create", "ci", "--team", "platform", "--model", "fast")
    assert [chat(gateway, key["key"]) for _ in range(3)] == [200, 200, 200]
    assert chat(gateway, key["key"] + "x") == 401
    assert chat(gateway, key["key"], "slow") == 404

    def told() -> dict[str, int]:
        found: dict[str, int] = pygate(gateway, "usage", "--by", "key", "--key", "ci")["total"]
        return found

    wait_for(lambda: told()["requests"] == 3, "the usage")
    total, ledger = told(), [entry for entry in provider.ledger() if entry["status"] == 200]
    assert len(ledger) == 3
    assert (total["errors"], total["unpriced"]) == (0, 0)
    assert total["input_tokens"] * 250 + total["output_tokens"] * 2_000 == total["nano_usd"] > 0
    rows = pygate(gateway, "usage", "--by", "team,model,target,provider")["rows"]
    assert [(r["team"], r["model"], r["target"], r["provider"]) for r in rows if r["requests"]] == [
        ("platform", "fast", "gpt-5-mini", "openai")
    ]
    # A new secret is another way to the same counters; the fifth call is over the team's limit.
    other = pygate(gateway, "keys", "rotate", "ci", "--overlap", "1h")
    assert (chat(gateway, other["key"]), chat(gateway, key["key"])) == (200, 429)
    pygate(gateway, "teams", "set", "platform", "--limit", "requests:month:9")
    assert chat(gateway, key["key"]) == 200
    pygate(gateway, "keys", "revoke", "ci")
    assert (chat(gateway, other["key"]), chat(gateway, key["key"])) == (401, 401)

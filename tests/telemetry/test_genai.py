"""Calls of models by the GenAI conventions: spans, metrics, money, and what must never be told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pygate.telemetry import genai
from pygate.telemetry.families import Family
from pygate.telemetry.genai import GenAi
from pygate.telemetry.llm import PROVIDERS, Llm
from tests.telemetry.conftest import Gateway
from tests.telemetry.receiver import GrpcReceiver, HttpReceiver, plain, wait_for

Receiver = HttpReceiver | GrpcReceiver

PROVIDED = {"claude": {"kind": "anthropic"}, "aws": {"kind": "bedrock"}, "mine": {"kind": "compatible"}}
ROUTE = {"name": "chat", "match": {"path": "/v1/**"}, "llm": {}}
LLM = {
    "dialect": "openai",
    "operation": "chat",
    "model": "smart",
    "target": "claude-sonnet-5",
    "provider": "claude",
    "credential": "main",
    "key": "key_1",
    "team": "platform",
    "project": "search",
    "stream": True,
    "input": 1200,
    "output": 300,
    "cached_read": 1000,
    "cached_write": 0,
    "reasoning": 40,
    "audio_input": 0,
    "audio_output": 0,
    "estimated": False,
    "nano_usd": 3_500_001,
    "ttft_ns": 1_500_000,
    "end": "clean",
    "loss": ["$.logprobs"],
}


@pytest.fixture
def served(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration that serves models and exports."""
    return config | {"ai": {"providers": PROVIDED}, "routes": [ROUTE]}


def model_call(gateway: Gateway, *, sampled: bool = True, llm: dict[str, Any] | None = None, **facts: Any) -> None:
    endpoint = facts.pop("endpoint", "api.anthropic.com:443")
    known = {"route": "chat", "service": "ai/claude", "path": "/v1/chat/completions", "method": "POST"}
    gateway.call(sampled=sampled, endpoint=endpoint, llm=LLM | (llm or {}), **(known | facts))


def test_the_providers_leg_is_an_inference_span(gateway: Gateway, receiver: Receiver, served: dict[str, Any]) -> None:
    gateway.telemetry(served).start()
    model_call(gateway, llm={"finish_reasons": ["stop"]}, attempts=2)
    wait_for(lambda: len(receiver.received.spans()) == 2)
    server, client = receiver.received.spans()
    assert (client.name, client.kind, client.status.code) == ("chat smart", 3, 0)
    known = plain(client.attributes)
    assert known.pop("pygate.upstream.wait", None) is None
    assert known == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "smart",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "claude-sonnet-5",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.0005,
        "gen_ai.usage.input_tokens": 1200,
        "gen_ai.usage.output_tokens": 300,
        "gen_ai.usage.cache_read.input_tokens": 1000,
        "gen_ai.usage.reasoning.output_tokens": 40,
        "server.address": "api.anthropic.com",
        "server.port": 443,
        "http.request.method": "POST",
        "http.request.resend_count": 1,
        "http.response.status_code": 200,
        "url.scheme": "http",
        "pygate.service": "ai/claude",
        "pygate.ai.provider": "claude",
        "pygate.ai.target": "claude-sonnet-5",
        "pygate.ai.credential": "main",
    }
    assert (server.name, server.kind) == ("POST /v1/**", 2)
    told = plain(server.attributes)
    assert {name: value for name, value in told.items() if name.startswith(("gen_ai.", "pygate.ai."))} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "smart",
        "pygate.ai.dialect": "openai",
        "pygate.ai.key": "key_1",
        "pygate.ai.team": "platform",
        "pygate.ai.project": "search",
        "pygate.ai.end": "clean",
        "pygate.ai.loss": ["$.logprobs"],
        "pygate.ai.cost": 0.003500001,
    }


@pytest.mark.parametrize(
    ("llm", "facts", "error", "model"),
    [
        ({"end": "cut"}, {}, "stream-cut", "claude-sonnet-5"),
        ({"end": "error"}, {}, "stream-error", "claude-sonnet-5"),
        ({"end": "client"}, {"code": "client-closed", "truncated": True}, "client-closed", "claude-sonnet-5"),
        ({"end": "error", "output": 0}, {"status": 429}, "429", None),
        ({"end": "error", "output": 0}, {"status": 502, "code": "connect-failed"}, "connect-failed", None),
    ],
)
def test_failures_are_told_at_the_providers_leg(
    llm: dict[str, Any],
    facts: dict[str, Any],
    error: str,
    model: str | None,
    gateway: Gateway,
    receiver: Receiver,
    served: dict[str, Any],
) -> None:
    gateway.telemetry(served).start()
    model_call(gateway, llm=llm, **facts)
    wait_for(lambda: len(receiver.received.spans()) == 2)
    client = receiver.received.spans()[1]
    known = plain(client.attributes)
    assert (client.status.code, known["error.type"]) == (2, error)
    assert known.get("gen_ai.response.model") == model


def test_a_refused_call_has_no_providers_leg(gateway: Gateway, receiver: Receiver, served: dict[str, Any]) -> None:
    telemetry = gateway.telemetry(served)
    telemetry.start()
    refused = {"target": "", "provider": "", "model": "x" * 200, "input": 0, "output": 0, "nano_usd": 0, "end": "error"}
    model_call(gateway, llm=refused, endpoint="", status=404, code="model-not-found")
    model_call(gateway)
    wait_for(lambda: len(receiver.received.spans()) == 3)
    server = receiver.received.spans()[0]
    assert server.name == "POST /v1/**" and plain(server.attributes)["error.type"] == "model-not-found"
    told = str(telemetry.prometheus()[0])
    assert "x" * 200 not in told, "what a client wrote is no label"


def test_calls_are_counted_sampled_or_not(gateway: Gateway, receiver: Receiver, served: dict[str, Any]) -> None:
    gateway.telemetry(served).start()
    for sampled in (True, False, False):
        model_call(gateway, sampled=sampled)
    model_call(gateway, sampled=False, llm={"nano_usd": None, "estimated": True, "stream": False, "ttft_ns": None})
    gateway.call(route="orders", sampled=False)

    def arrived() -> bool:
        metric = receiver.received.metrics().get("gen_ai.client.operation.duration")
        return metric is not None and sum(p.count for p in metric.histogram.data_points) == 4

    wait_for(arrived)
    metrics = receiver.received.metrics()
    (duration,) = metrics["gen_ai.client.operation.duration"].histogram.data_points
    assert plain(duration.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "smart",
        "gen_ai.response.model": "claude-sonnet-5",
        "server.address": "api.anthropic.com",
        "server.port": 443,
    }
    assert list(duration.explicit_bounds) == [0.01 * 2**n for n in range(14)]
    assert duration.sum == pytest.approx(4 * 0.002), "from the intent to the end"
    (request,) = metrics["gen_ai.server.request.duration"].histogram.data_points
    assert request.sum == pytest.approx(4 * 0.003)
    (chunk,) = metrics["gen_ai.client.operation.time_to_first_chunk"].histogram.data_points
    assert (chunk.count, chunk.sum) == (3, pytest.approx(3 * 0.0005))
    (first,) = metrics["gen_ai.server.time_to_first_token"].histogram.data_points
    assert (first.count, first.sum, list(first.explicit_bounds)[0]) == (3, pytest.approx(3 * 0.0015), 0.001)
    (pace,) = metrics["gen_ai.server.time_per_output_token"].histogram.data_points
    assert (pace.count, pace.sum) == (3, pytest.approx(3 * 0.0015 / 299))

    usage = metrics["gen_ai.client.token.usage"]
    by_type = {plain(p.attributes)["gen_ai.token.type"]: p for p in usage.histogram.data_points}
    assert usage.unit == "{token}" and set(by_type) == {"input", "output"}
    assert (by_type["input"].sum, by_type["output"].sum) == (4800, 1200)
    assert list(by_type["input"].explicit_bounds) == [4.0**n for n in range(14)]
    assert by_type["output"].bucket_counts[5] == 4, "300 tokens are more than 256 and not more than 1,024"

    (cost,) = metrics["pygate.ai.cost"].sum.data_points
    assert cost.as_double == 0.010500003 and metrics["pygate.ai.cost"].sum.is_monotonic
    team = {"pygate.ai.team": "platform", "pygate.ai.project": "search"}
    assert team.items() <= plain(cost.attributes).items()
    assert metrics["pygate.ai.unpriced"].sum.data_points[0].as_int == 1
    assert metrics["pygate.ai.estimated"].sum.data_points[0].as_int == 1
    assert not [name for name in metrics if name.startswith("gen_ai.client.inference.")]
    time.sleep(0.3)
    assert len(receiver.received.spans()) == 2, "spans of the sampled call alone"


def test_logs_carry_the_same_attributes(gateway: Gateway, receiver: Receiver, served: dict[str, Any]) -> None:
    served["telemetry"]["logs"] = "all"
    gateway.telemetry(served).start()
    model_call(gateway, sampled=False)
    wait_for(lambda: len(receiver.received.logs()) == 1)
    known = plain(receiver.received.logs()[0].attributes)
    assert known["gen_ai.provider.name"] == "anthropic" and known["gen_ai.usage.output_tokens"] == 300
    assert known["pygate.ai.key"] == "key_1" and known["http.response.status_code"] == 200


def test_prometheus_alone_is_enough_to_count(gateway: Gateway) -> None:
    telemetry = gateway.telemetry(
        {"telemetry": {"access_log": "off"}, "ai": {"providers": PROVIDED}, "routes": [ROUTE]}
    )
    telemetry.start()
    model_call(gateway, sampled=False)
    wait_for(lambda: b"pygate_ai_cost_total" in telemetry.prometheus()[0])
    text = telemetry.prometheus()[0].decode()
    labels = 'gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="smart"'
    assert f"gen_ai_client_operation_duration_seconds_count{{{labels}" in text
    assert 'gen_ai_token_type="input"} 1200' in text
    assert 'pygate_ai_project="search"} 0.003500001' in text


def test_without_models_no_record_is_read_for_them(gateway: Gateway, tmp_path: Path) -> None:
    telemetry = gateway.telemetry({"telemetry": {"access_log": str(tmp_path / "log")}})
    telemetry.start()
    model_call(gateway)
    wait_for(lambda: (tmp_path / "log").exists() and bool((tmp_path / "log").read_bytes()))
    assert not [family for family in telemetry.families() if family.name.startswith("gen_ai.")]


# --- without a gateway ---


def told(**changes: Any) -> dict[str, Any]:
    facts = {name: changes.pop(name) for name in ("status", "code", "endpoint", "duration_ns") if name in changes}
    return {"end_ns": 9_000_000_000, "duration_ns": 2_000_000_000, "status": 200} | facts | {"llm": LLM | changes}


def families(counted: GenAi) -> dict[str, Family]:
    return {family.name: family for family in counted.families()}


@pytest.mark.parametrize(
    ("kind", "name"),
    [*PROVIDERS.items(), ("openai", "openai"), ("anthropic", "anthropic"), ("groq", "groq"), ("compatible", "p")],
)
def test_providers_have_well_known_names(kind: str, name: str) -> None:
    llm = Llm.of(LLM | {"provider": "p"})
    assert llm is not None and llm.provider_name({"p": kind}) == name
    assert llm.provider_name({}) == "p", "a provider that the configuration has lost keeps its own name"


def test_geminis_chat_has_a_name_of_its_own() -> None:
    gemini = Llm.of(LLM | {"dialect": "gemini"})
    assert gemini is not None and gemini.operation_name == "generate_content"
    embedding = Llm.of(LLM | {"dialect": "gemini", "operation": "embeddings"})
    assert embedding is not None and embedding.operation_name == "embeddings"


@pytest.mark.parametrize("other", [None, b"{}", "", 3])
def test_what_is_no_call_of_a_model_counts_nothing(other: Any) -> None:
    counted = GenAi()
    counted.count({"llm": other, "status": 200})
    counted.count({"status": 200})
    counted.count(told(target=""))
    assert counted.families() == []


def test_the_new_names_come_with_the_opt_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental")
    counted = GenAi()
    counted.count(told(audio_input=200, cached_write=7))
    counted.count(told(audio_input=200, end="cut"))
    found = families(counted)
    usage = "gen_ai.client.inference.usage"
    tokens = {p.attributes["gen_ai.token.modality"]: p.value for p in found[f"{usage}.input_tokens"].points}
    assert tokens == {"audio": 400, "unknown": 2000}
    for name, sum_ in {"output": 600, "cache_read.input": 2000, "cache_write.input": 7, "reasoning.output": 80}.items():
        (point,) = found[f"{usage}.{name}_tokens"].points
        assert (point.value, found[f"{usage}.{name}_tokens"].kind) == (sum_, "counter")
    operation = "gen_ai.client.inference.operation"
    assert [found[f"{operation}.{kind}_tokens"].histograms[0].sum for kind in ("input", "output")] == [2400, 600]
    assert "gen_ai.client.token.usage" in found, "the old name stays"


def test_errors_are_told_apart_by_duration_alone() -> None:
    counted = GenAi()
    counted.count(told())
    counted.count(told(end="cut"))
    found = families(counted)
    errors = [h.attributes.get("error.type") for h in found["gen_ai.client.operation.duration"].histograms]
    assert errors == [None, "stream-cut"]
    usage = found["gen_ai.client.token.usage"].histograms
    assert [h.attributes["gen_ai.token.type"] for h in usage] == ["input", "output"]
    assert [h.sum for h in usage] == [2400, 600]
    assert sum(found["gen_ai.server.time_to_first_token"].histograms[0].buckets) == 1, "of clean streams"


def test_two_accounts_of_a_provider_are_told_apart_by_money_alone() -> None:
    counted = GenAi()
    counted.configure({"one": "openai", "two": "openai"})
    for provider in ("one", "two"):
        counted.count(told(provider=provider, target="gpt-5"))
    counted.configure({"two": "openai"})
    counted.count(told(provider="one", target="gpt-5"))
    found = families(counted)
    (duration,) = found["gen_ai.client.operation.duration"].histograms
    assert duration.attributes["gen_ai.provider.name"] == "openai" and sum(duration.buckets) == 3
    points = {p.attributes["pygate.ai.provider"]: p for p in found["pygate.ai.cost"].points}
    assert {name: p.value for name, p in points.items()} == {"one": 0.007000002, "two": 0.003500001}
    assert {p.attributes["gen_ai.provider.name"] for p in points.values()} == {"openai"}


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genai, "MAX_SERIES", 3)
    counted = GenAi()
    for number in range(10):
        counted.count(told(target=f"m{number}", team=f"t{number}"))
    found = families(counted)
    duration = found["gen_ai.client.operation.duration"].histograms
    assert [h.attributes.get("gen_ai.response.model") for h in duration] == ["m0", "m1", "m2", None]
    assert duration[3].attributes == {"otel.metric.overflow": True} and sum(duration[3].buckets) == 7
    assert [p.value for p in found["pygate.ai.cost"].points] == [0.003500001] * 3 + [0.024500007]


def test_every_metric_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    counted = GenAi()
    counted.count(told(stream=True))
    text = (Path(__file__).parents[2] / "docs/telemetry.md").read_text()
    assert not [name for name in families(counted) if f"| `{name}` |" not in text]
    found = counted.families()
    keys = {key for family in found for point in family.points for key in point.attributes}
    keys |= {key for family in found for histogram in family.histograms for key in histogram.attributes}
    assert not [key for key in keys if f"`{key}`" not in text]

"""LiteLLM's adapters, written by others from the providers' documentation, against every dialect of the simulator."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_LOG", "ERROR")

import litellm  # noqa: E402
import pytest  # noqa: E402

from tests.providers.running import Simulator  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
litellm.suppress_debug_info = True
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "the sky", "parameters": SCHEMA}}
ASKED = 'call weather({"city": "Bern"}) and call weather({"city": "Genf"})'
#: Its name of the model, and what follows the provider's name in the base URL.
ADAPTERS = {
    "openai": ("openai/gpt-4o-mini", "/v1"),
    "anthropic": ("anthropic/claude-haiku-4-5", ""),
    "gemini": ("gemini/gemini-2.5-flash", "/v1beta/models/gemini-2.5-flash"),
    "bedrock": ("bedrock/converse/amazon.nova-lite-v1:0", ""),
    "azure": ("azure/deployment", ""),
    "mistral": ("mistral/mistral-large-latest", "/v1"),
    "groq": ("groq/llama-3.3-70b-versatile", "/openai/v1"),
    "deepseek": ("deepseek/deepseek-chat", "/beta"),
    "xai": ("xai/grok-4", "/v1"),
    "openrouter": ("openrouter/anthropic/claude-sonnet-4.5", "/api/v1"),
    "together": ("together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", "/v1"),
    "fireworks": ("fireworks_ai/accounts/fireworks/models/llama-v3p3-70b-instruct", "/inference/v1"),
    "vllm": ("hosted_vllm/meta-llama/Llama-3.1-8B-Instruct", "/v1"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters(providers: Simulator, name: str) -> None:
    model, base = ADAPTERS[name]

    def complete(text: str | list[Any], **more: Any) -> Any:
        messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
        given: dict[str, Any] = {"api_key": f"{name}-key-1", "api_base": f"{providers.url}/{name}{base}"}
        if name == "bedrock":
            given = {
                "aws_access_key_id": "AKIDBEDROCK1",
                "aws_secret_access_key": "bedrock-secret-1",
                "aws_region_name": "eu-central-1",
                "aws_bedrock_runtime_endpoint": f"{providers.url}/bedrock",
            }
        if name == "azure":
            given["api_version"] = "2024-10-21"
        return litellm.completion(model=model, messages=messages, timeout=20, max_retries=0, **given, **more)

    answer = complete("hello big world")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("hello big world", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3)
    chunks = list(complete("one two three", stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two three"
    told = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    assert (told[-1].prompt_tokens, told[-1].completion_tokens) == (3, 3)
    message = complete(ASKED, tools=[TOOL]).choices[0].message
    assert [json.loads(call.function.arguments)["city"] for call in message.tool_calls] == ["Bern", "Genf"]
    turns = [{"role": "user", "content": ASKED}, message.model_dump(exclude_none=True)]
    turns += [{"role": "tool", "tool_call_id": call.id, "content": "wet"} for call in message.tool_calls]
    result = complete(turns, tools=[TOOL]).choices[0].message.content
    assert result.startswith("result: ") and result.count("wet") == 2
    streamed: Any = litellm.stream_chunk_builder(list(complete(ASKED, tools=[TOOL], stream=True)))
    calls = streamed.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Bern", "Genf"]
    assert providers.last()["provider"] == name
    providers.faults({"status": 429})
    with pytest.raises(litellm.RateLimitError):
        complete("x")

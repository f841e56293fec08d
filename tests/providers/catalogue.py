"""The providers: where they lie under this server's address, which models and keys they know, how they differ.

- `/NAME` + the provider's own path. A base URL is this server's address with `/NAME` and what the provider's own has:
  `/openai/v1`, `/anthropic`, `/groq/openai/v1`, `/openrouter/api/v1`, `/fireworks/inference/v1`, …
- Keys: `NAME-key-1` to `NAME-key-9`. Bedrock: access keys `AKIDBEDROCK1` to `9` with the secrets `bedrock-secret-1` to
  `9` (or a bearer key). Vertex: tokens from its token endpoint. Ollama wants none.
- A model is known by its prefix; `missing` and `unknown` never are. A name with `tiny` has a context of 64 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.providers import errors
from tests.providers.errors import Shape
from tests.providers.wire import Call, Headers, Refused

CONTEXT = 1_000_000
TINY = 64


@dataclass(frozen=True)
class Quirk:
    """How a provider's chat completions differ from OpenAI's."""

    usage: str = "asked"
    """In a stream: `asked` (an event of its own if `include_usage`), `last` (in the event with the finish reason)."""
    reasoning: str | None = "reasoning_content"
    """Member that holds the text of reasoning; None: only counted."""
    outside: bool = False
    """Reasoning tokens are not part of `completion_tokens`."""
    whole_calls: bool = False
    """Tool calls are not streamed in pieces."""
    comments: str | None = None
    """A comment at the start of a stream."""
    filters: bool = False
    """Azure: content filter results, in a first event without choices, too."""
    hit_miss: bool = False
    """DeepSeek: `prompt_cache_hit_tokens`, `prompt_cache_miss_tokens`."""
    twice: bool = False
    """Groq: usage under `x_groq`, too."""


@dataclass(frozen=True)
class Provider:
    name: str
    dialect: str
    """Which operations it has: a name of `operations.TABLES`."""
    bases: tuple[str, ...]
    """What stands between `/NAME` and the paths of its operations."""
    models: tuple[str, ...]
    """Listed ones. The parts before the first `-`, `.` or `/` are the known prefixes."""
    shape: Shape
    request_id: str = "x-request-id"
    limits: str | None = "openai"
    """Style of the rate limit headers."""
    auth: str = "bearer"
    any_model: bool = False
    quirk: Quirk = field(default_factory=Quirk)

    def knows(self, model: str) -> bool:
        if model.startswith(("missing", "unknown")):
            return False
        return self.any_model or model.startswith(tuple({_family(name) for name in self.models}))

    def context(self, model: str) -> int:
        return TINY if "tiny" in model else CONTEXT


def _family(model: str) -> str:
    return min(model.split(mark)[0] for mark in "-./")


_OPENAI = (
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-5-mini",
    "o4-mini",
    "text-embedding-3-small",
    "whisper-1",
    "tts-1",
    "gpt-image-1",
    "dall-e-3",
    "ft:gpt-4o-mini",
)
_CLAUDE = ("claude-haiku-4-5", "claude-sonnet-5-5", "claude-opus-5-5")
_GEMINI = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-embedding-001", "text-embedding-004")
_BEDROCK = (
    "amazon.nova-lite-v1:0",
    "amazon.titan-embed-text-v2:0",
    "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "us.amazon.nova-pro-v1:0",
    "eu.amazon.nova-lite-v1:0",
    "meta.llama3-3-70b-instruct-v1:0",
    "arn:aws:bedrock",
)
PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("openai", "openai", ("/v1",), _OPENAI, errors.openai, quirk=Quirk(reasoning=None)),
        Provider(
            "azure",
            "azure",
            ("/openai/v1", "/openai"),
            _OPENAI,
            errors.azure,
            "apim-request-id",
            "azure",
            auth="azure",
            any_model=True,
            quirk=Quirk(reasoning=None, filters=True),
        ),
        Provider("anthropic", "anthropic", ("/v1",), _CLAUDE, errors.anthropic, "request-id", "anthropic", "anthropic"),
        Provider("gemini", "gemini", ("/v1beta", "/v1"), _GEMINI, errors.google, "x-gemini-id", None, "google"),
        Provider(
            "vertex", "vertex", ("/v1", "/v1beta1"), _GEMINI + _CLAUDE, errors.google, "x-vertex-id", None, "token"
        ),
        Provider("bedrock", "bedrock", ("",), _BEDROCK, errors.amazon, "x-amzn-requestid", None, "sigv4"),
        Provider(
            "cohere",
            "cohere",
            ("/v2", "/v1", "/compatibility/v1"),
            ("command-a-03-2025", "command-r7b-12-2024", "rerank-v3.5", "embed-v4.0"),
            errors.cohere,
            "x-debug-trace-id",
            None,
        ),
        Provider(
            "mistral",
            "compatible",
            ("/v1",),
            ("mistral-large-latest", "codestral-latest", "ministral-8b-latest", "magistral-medium-latest"),
            errors.mistral,
            quirk=Quirk(usage="last", whole_calls=True),
        ),
        Provider(
            "groq",
            "compatible",
            ("/openai/v1",),
            ("llama-3.3-70b-versatile", "openai/gpt-oss-120b", "whisper-large-v3", "qwen/qwen3-32b"),
            errors.openai,
            quirk=Quirk(usage="asked", reasoning="reasoning", twice=True),
        ),
        Provider(
            "deepseek",
            "compatible",
            ("/v1", "/beta", ""),
            ("deepseek-chat", "deepseek-reasoner"),
            errors.deepseek,
            "x-ds-trace-id",
            None,
            quirk=Quirk(usage="last", hit_miss=True),
        ),
        Provider(
            "xai",
            "compatible",
            ("/v1",),
            ("grok-4", "grok-3-mini"),
            errors.xai,
            quirk=Quirk(usage="asked", outside=True),
        ),
        Provider(
            "openrouter",
            "compatible",
            ("/api/v1",),
            ("openai/gpt-4o-mini", "anthropic/claude-sonnet-4.5"),
            errors.openrouter,
            limits=None,
            any_model=True,
            quirk=Quirk(usage="asked", reasoning="reasoning", comments="OPENROUTER PROCESSING"),
        ),
        Provider(
            "together",
            "compatible",
            ("/v1",),
            ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "Qwen/Qwen3-32B"),
            errors.openai,
            any_model=True,
            quirk=Quirk(usage="last", reasoning="reasoning"),
        ),
        Provider(
            "fireworks",
            "compatible",
            ("/inference/v1",),
            ("accounts/fireworks/models/llama-v3p3-70b-instruct",),
            errors.fireworks,
            quirk=Quirk(usage="last"),
        ),
        Provider(
            "ollama",
            "compatible",
            ("/v1",),
            ("llama3.2", "qwen3:8b"),
            errors.ollama,
            limits=None,
            auth="none",
            any_model=True,
            quirk=Quirk(reasoning="reasoning", whole_calls=True),
        ),
        Provider(
            "vllm",
            "compatible",
            ("/v1",),
            ("meta-llama/Llama-3.1-8B-Instruct",),
            errors.vllm,
            limits=None,
            any_model=True,
            quirk=Quirk(reasoning="reasoning_content"),
        ),
    )
}


def _valid(provider: Provider, key: str | None) -> bool:
    prefix = f"{provider.name}-key-"
    return key is not None and key.startswith(prefix) and key[len(prefix) :] in set("123456789")


def _google_key(call: Call) -> str | None:
    return call.request.header("x-goog-api-key") or call.request.query.get("key")


def key_of(provider: Provider, call: Call) -> str:
    """The credential that came, whether it is right or not; for Bedrock the access key."""
    request = call.request
    if provider.auth == "anthropic":
        return request.header("x-api-key") or request.bearer or ""
    if provider.auth == "azure":
        return request.header("api-key") or request.bearer or ""
    if provider.auth == "google":
        return _google_key(call) or ""
    if provider.auth == "sigv4" and request.bearer is None:
        return (request.header("authorization") or "").partition("Credential=")[2].partition("/")[0]
    return request.bearer or ""


def check_key(provider: Provider, call: Call) -> None:
    """Raises the refusal of this provider for a wrong or missing key. `sigv4` and `token` have their own checks."""
    key = call.key
    if provider.auth == "none" or _valid(provider, key):
        return
    if provider.auth == "google":
        if not key:
            raise Refused(403, "permission", "a method that wants a caller with an API key was called without one")
        raise Refused(400, "authentication", "API key not valid. Please pass a valid API key.")
    if provider.auth == "anthropic":
        raise Refused(401, "authentication", "invalid x-api-key" if key else "x-api-key header is required")
    if provider.name == "openai" and not key:
        raise Refused(401, "authentication", "an API key must be sent as a bearer token", code="missing_api_key")
    shown = f"{key[:4]}***{key[-2:]}" if len(key) > 8 else "***"
    raise Refused(401, "authentication", f"Incorrect API key provided: {shown}")


def limit_headers(provider: Provider, used: int, tokens: int, iso: str) -> Headers:
    """What the provider tells of its rate limits; `iso` is a time a second ahead."""
    requests, left = max(10_000 - used % 10_000, 0), max(2_000_000 - tokens, 0)
    if provider.limits == "openai":
        return [
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-limit-tokens", "2000000"),
            ("x-ratelimit-remaining-requests", str(requests)),
            ("x-ratelimit-remaining-tokens", str(left)),
            ("x-ratelimit-reset-requests", "8.64s"),
            ("x-ratelimit-reset-tokens", "6ms"),
        ]
    if provider.limits == "azure":
        return [("x-ratelimit-remaining-requests", str(requests)), ("x-ratelimit-remaining-tokens", str(left))]
    if provider.limits == "anthropic":
        found: Headers = []
        for what, limit, rest in (("requests", 10_000, requests), ("tokens", 2_000_000, left)):
            found += [
                (f"anthropic-ratelimit-{what}-limit", str(limit)),
                (f"anthropic-ratelimit-{what}-remaining", str(rest)),
                (f"anthropic-ratelimit-{what}-reset", iso),
            ]
        return found
    return []

"""What a record says of a call of a model, in the words of the OpenTelemetry GenAI conventions.

Rules:

1. Nothing of prompts and answers is in a record, and so never here.
2. `gen_ai.request.model` is what the client asked for – a name of the configuration –, `gen_ai.response.model` the
   provider's model that answered.
3. A model that no target was found for is whatever the client wrote: it may be an attribute of its span, and never one
   of a metric, nor a span's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pygate.telemetry.families import Attributes

#: Kind of provider → well-known value of `gen_ai.provider.name`; others are called by their kind.
PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}


def provider_name(provider: str, kinds: Mapping[str, str]) -> str:
    """`gen_ai.provider.name` of a provider; one that is not known keeps its own name."""
    kind = kinds.get(provider, "compatible")
    return provider if kind == "compatible" else PROVIDERS.get(kind, kind)


@dataclass(slots=True)
class Llm:
    """The member `llm` of an outcome. Tokens of `input` include cached ones, those of `output` reasoning."""

    dialect: str
    operation: str
    #: As the client asked for it.
    model: str
    #: The provider's model; empty when no provider was called.
    target: str
    provider: str
    credential: str
    key: str
    team: str
    project: str
    stream: bool
    input: int
    output: int
    cached_read: int
    cached_write: int
    reasoning: int
    audio_input: int
    audio_output: int
    #: The provider did not tell all of the usage.
    estimated: bool
    #: None: something the call used has no price.
    nano_usd: int | None
    #: From the first byte of the request; None: nothing of an answer came.
    ttft_ns: int | None
    #: `clean`, `cut`, `error` or `client`.
    end: str
    #: What could not be translated.
    loss: tuple[str, ...]
    finish_reasons: tuple[str, ...]

    @classmethod
    def of(cls, told: Any) -> Llm | None:
        """From the member of a dict of `AuditTail`; None if there is none."""
        if not isinstance(told, dict):
            return None
        get = told.get
        return cls(
            dialect=get("dialect", ""),
            operation=get("operation", ""),
            model=get("model", ""),
            target=get("target", ""),
            provider=get("provider", ""),
            credential=get("credential", ""),
            key=get("key", ""),
            team=get("team", ""),
            project=get("project", ""),
            stream=get("stream", False),
            input=get("input", 0),
            output=get("output", 0),
            cached_read=get("cached_read", 0),
            cached_write=get("cached_write", 0),
            reasoning=get("reasoning", 0),
            audio_input=get("audio_input", 0),
            audio_output=get("audio_output", 0),
            estimated=get("estimated", False),
            nano_usd=get("nano_usd"),
            ttft_ns=get("ttft_ns"),
            end=get("end", ""),
            loss=tuple(get("loss", ())),
            finish_reasons=tuple(get("finish_reasons", ())),
        )

    @property
    def operation_name(self) -> str:
        """`gen_ai.operation.name`."""
        if self.operation == "chat" and self.dialect == "gemini":
            return "generate_content"
        return self.operation

    @property
    def response_model(self) -> str:
        """The model that answered; empty when none did."""
        return self.target if self.output or self.end == "clean" else ""

    def provider_name(self, kinds: Mapping[str, str]) -> str:
        """`gen_ai.provider.name`. `kinds`: the kind of every provider."""
        return provider_name(self.provider, kinds)

    def failure(self, code: str, status: int) -> str:
        """`error.type`: the gateway's error code, the provider's status, or how a stream ended."""
        if code:
            return code
        if status >= 400:
            return str(status)
        return {"cut": "stream-cut", "error": "stream-error"}.get(self.end, "")

    def provider_leg(self, kinds: Mapping[str, str], before_ns: int) -> Attributes:
        """Of the span of the call to the provider. `before_ns`: what passed before the request was sent."""
        known: Attributes = {
            "gen_ai.operation.name": self.operation_name,
            "gen_ai.provider.name": self.provider_name(kinds),
            "gen_ai.request.model": self.model,
            "gen_ai.request.stream": self.stream,
            "gen_ai.response.model": self.response_model,
            "gen_ai.response.finish_reasons": self.finish_reasons,
            "gen_ai.usage.input_tokens": self.input,
            "gen_ai.usage.output_tokens": self.output,
            "gen_ai.usage.cache_read.input_tokens": self.cached_read,
            "gen_ai.usage.cache_creation.input_tokens": self.cached_write,
            "gen_ai.usage.reasoning.output_tokens": self.reasoning,
            "pygate.ai.provider": self.provider,
            "pygate.ai.target": self.target,
            "pygate.ai.credential": self.credential,
        }
        if self.stream and self.ttft_ns is not None:
            known["gen_ai.response.time_to_first_chunk"] = max(self.ttft_ns - before_ns, 0) / 1e9
        return {name: value for name, value in known.items() if value}

    def governed(self) -> Attributes:
        """Of the exchange: who called, and what it came to. Usage stands at the provider's leg alone, so that sums over
        spans count it once."""
        known: Attributes = {
            "gen_ai.operation.name": self.operation_name,
            "gen_ai.request.model": self.model,
            "pygate.ai.dialect": self.dialect,
            "pygate.ai.key": self.key,
            "pygate.ai.team": self.team,
            "pygate.ai.project": self.project,
            "pygate.ai.end": self.end,
            "pygate.ai.estimated": self.estimated,
            "pygate.ai.loss": self.loss,
            "pygate.ai.unpriced": self.nano_usd is None,
        }
        if self.nano_usd:
            known["pygate.ai.cost"] = self.nano_usd / 1e9
        return {name: value for name, value in known.items() if value}

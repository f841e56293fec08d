"""Which function answers a path: a table per dialect, and where model and stream flag are found."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import unquote

from tests.providers import chat, cohere, converse, gemini, media, messages, multipart, realtime, responses
from tests.providers.wire import Answer, Call, Refused

Run = Callable[[Call], Answer]


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    """After the base. `{name}` is one segment, `{model}` may be more."""
    name: str
    run: Run
    streams: bool | None = None
    """None: as `stream` in the body says."""
    pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(self.path))
        pattern = pattern.replace("(?P<model>[^/]+)", "(?P<model>.+?)")
        object.__setattr__(self, "pattern", re.compile(pattern))

    def stream(self, call: Call) -> bool:
        if self.streams is not None:
            return self.streams
        return (
            call.request.method == "POST" and not multipart.boundary(call.request) and call.body.get("stream") is True
        )


_OPENAI = (
    Operation("POST", "/chat/completions", "chat", chat.complete),
    Operation("POST", "/responses/input_tokens", "input_tokens", responses.count, False),
    Operation("POST", "/responses", "responses", responses.create),
    Operation("GET", "/responses/{id}", "responses.get", responses.retrieve, False),
    Operation("DELETE", "/responses/{id}", "responses.delete", responses.delete, False),
    Operation("GET", "/realtime", "realtime", realtime.refuse, False),
    Operation("POST", "/embeddings", "embeddings", media.embeddings, False),
    Operation("GET", "/models", "models", media.models, False),
    Operation("GET", "/models/{model}", "models.get", media.model, False),
    Operation("POST", "/audio/transcriptions", "transcription", media.transcription, False),
    Operation("POST", "/audio/translations", "translation", media.transcription, False),
    Operation("POST", "/audio/speech", "speech", media.speech, False),
    Operation("POST", "/images/generations", "image", media.image, False),
    Operation("POST", "/images/edits", "image.edit", media.image, False),
    Operation("POST", "/files", "files.create", media.file_create, False),
    Operation("GET", "/files", "files", media.files, False),
    Operation("GET", "/files/{id}", "files.get", media.file, False),
    Operation("GET", "/files/{id}/content", "files.content", media.file_content, False),
    Operation("DELETE", "/files/{id}", "files.delete", media.file_delete, False),
    Operation("POST", "/batches", "batches.create", media.batch_create, False),
    Operation("GET", "/batches", "batches", media.batches, False),
    Operation("GET", "/batches/{id}", "batches.get", media.batch, False),
    Operation("POST", "/batches/{id}/cancel", "batches.cancel", media.batch_cancel, False),
    Operation("POST", "/moderations", "moderation", media.moderation, False),
    Operation("POST", "/rerank", "rerank", cohere.rerank, False),
)
_ANTHROPIC = (
    Operation("POST", "/messages", "messages", messages.create),
    Operation("POST", "/messages/count_tokens", "count_tokens", messages.count, False),
    Operation("GET", "/models", "models", messages.models, False),
    Operation("GET", "/models/{model}", "models.get", messages.model, False),
)
_VERBS = (
    ("generateContent", "generate", gemini.generate, False),
    ("streamGenerateContent", "generate", gemini.stream, True),
    ("countTokens", "count_tokens", gemini.count, False),
    ("embedContent", "embeddings", gemini.embed, False),
    ("batchEmbedContents", "embeddings", gemini.embed_batch, False),
    ("predict", "embeddings", gemini.predict, False),
)
_GEMINI = (
    *(Operation("POST", f"/models/{{model}}:{verb}", name, run, streams) for verb, name, run, streams in _VERBS),
    Operation("GET", "/models", "models", gemini.models, False),
    Operation("GET", "/models/{model}", "models.get", gemini.model, False),
)
_PUBLISHED = "/projects/{project}/locations/{location}/publishers"
_VERTEX = (
    *(
        Operation("POST", f"{_PUBLISHED}/google/models/{{model}}:{verb}", name, run, streams)
        for verb, name, run, streams in _VERBS
    ),
    Operation("POST", f"{_PUBLISHED}/anthropic/models/{{model}}:rawPredict", "messages", messages.create, False),
    Operation("POST", f"{_PUBLISHED}/anthropic/models/{{model}}:streamRawPredict", "messages", messages.create, True),
)
_BEDROCK = (
    Operation("POST", "/model/{model}/converse", "converse", converse.converse, False),
    Operation("POST", "/model/{model}/converse-stream", "converse", converse.stream, True),
    Operation("POST", "/model/{model}/count-tokens", "count_tokens", converse.count, False),
    Operation("POST", "/model/{model}/invoke", "invoke", converse.invoke, False),
    Operation("GET", "/foundation-models", "models", converse.models, False),
)
_COHERE = (
    Operation("POST", "/chat", "chat", cohere.chat),
    Operation("POST", "/rerank", "rerank", cohere.rerank, False),
    Operation("POST", "/embed", "embeddings", cohere.embed, False),
    Operation("GET", "/models", "models", cohere.models, False),
    Operation("POST", "/chat/completions", "chat", chat.complete),
)
_AZURE = tuple(
    Operation(entry.method, f"/deployments/{{model}}{entry.path}", entry.name, entry.run, entry.streams)
    for entry in _OPENAI
    if entry.path.startswith(("/chat", "/embeddings", "/audio", "/images"))
)
TABLES: dict[str, tuple[Operation, ...]] = {
    "openai": _OPENAI,
    "compatible": _OPENAI,
    "azure": _AZURE + _OPENAI,
    "anthropic": _ANTHROPIC,
    "gemini": _GEMINI,
    "vertex": _VERTEX,
    "bedrock": _BEDROCK,
    "cohere": _COHERE,
}


@cache
def _ordered(bases: tuple[str, ...]) -> list[str]:
    return sorted(bases, key=len, reverse=True)


def find(call: Call, path: str) -> Operation:
    """Fills in the call's operation, parameters and model."""
    other = False
    for base in _ordered(call.provider.bases):
        if not path.startswith(base + "/"):
            continue
        for operation in TABLES[call.provider.dialect]:
            match = operation.pattern.fullmatch(path, len(base))
            if match is None:
                continue
            if operation.method != call.request.method:
                other = True
                continue
            call.operation = operation.name
            call.parameters = {name: unquote(value) for name, value in match.groupdict().items()}
            call.model = call.parameters.get("model") or _named(call)
            return operation
    if other:
        raise Refused(405, "method", f"{call.request.method} is not allowed here")
    raise Refused(404, "not_found", f"Invalid URL ({call.request.method} {path})", code="unknown_url")


def _named(call: Call) -> str:
    """The model that the body names."""
    if call.request.method != "POST":
        return call.request.query.get("model", "")
    if multipart.boundary(call.request):
        return multipart.text(call.request, "model") or ""
    if not call.request.body:
        return ""
    model = call.body.get("model")
    if model is not None and not isinstance(model, str):
        raise Refused(400, "invalid", "model must be a string", "model")
    return model or ""

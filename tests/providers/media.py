"""The rest of OpenAI's platform, minimal: models, embeddings, audio, images, files, batches, moderation.

Made from the request, so that a pass-through can be checked octet by octet: speech is the input's text after a RIFF
head, a transcription tells name and size of its file, an image is a PNG of one pixel, a file comes back as it was put.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any

from tests.providers import multipart
from tests.providers.answers import words
from tests.providers.wire import Answer, Call, Refused, Usage, Whole

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
SIZE = 16


def vector(text: str, size: int = SIZE) -> list[float]:
    """Of length 1, made from a digest of the text."""
    digest = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(size * 2)
    numbers = [value / 32768 - 1 for value in struct.unpack(f"!{size}H", digest)]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [round(number / length, 6) for number in numbers]


def embeddings(call: Call) -> Answer:
    given: Any = call.body.get("input")
    texts: list[Any] = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    if not all(isinstance(text, (str, list)) and bool(text) for text in texts):
        raise Refused(400, "invalid", "input must be a text or a list of them", "input")
    size = call.body.get("dimensions") or SIZE
    found = []
    for at, text in enumerate(texts):
        numbers = vector(text if isinstance(text, str) else ",".join(map(str, text)), size)
        packed: Any = numbers
        if call.body.get("encoding_format") == "base64":
            packed = base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode()
        found.append({"object": "embedding", "index": at, "embedding": packed})
    tokens = sum(words(text) if isinstance(text, str) else len(text) for text in texts)
    told: dict[str, Any] = {"object": "list", "data": found, "model": call.model}
    if call.quirks.usage != "omit":
        told["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Whole.json(told, Usage(input=tokens))


def models(call: Call) -> Answer:
    return Whole.json({"object": "list", "data": [_model(call, name) for name in call.provider.models]}, Usage())


def model(call: Call) -> Answer:
    return Whole.json(_model(call, call.parameters["model"]), Usage())


def _model(call: Call, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": call.provider.name}


def transcription(call: Call) -> Answer:
    form = multipart.parts(call.request)
    name, octets = form.get("file", (None, b""))
    if name is None:
        raise Refused(400, "invalid", "a file is needed", "file")
    text = f"transcript of {name} {len(octets)}"
    usage = Usage(input=len(octets), output=words(text))
    if form.get("response_format", (None, b"json"))[1] == b"text":
        return Whole(text.encode() + b"\n", kind="text/plain; charset=utf-8", usage=usage)
    details = {"text_tokens": 0, "audio_tokens": usage.input}
    tokens = {"type": "tokens", "input_tokens": usage.input, "input_token_details": details}
    tokens |= {"output_tokens": usage.output, "total_tokens": usage.input + usage.output}
    return Whole.json({"text": text, "usage": tokens}, usage)


def speech(call: Call) -> Answer:
    text = call.body.get("input")
    if not isinstance(text, str):
        raise Refused(400, "invalid", "input must be a text", "input")
    kinds = {"wav": "audio/wav", "opus": "audio/opus", "aac": "audio/aac", "flac": "audio/flac", "pcm": "audio/pcm"}
    kind = kinds.get(call.body.get("response_format", "mp3"), "audio/mpeg")
    return Whole(b"RIFF" + text.encode(), kind=kind, usage=Usage(input=words(text)))


def image(call: Call) -> Answer:
    if multipart.boundary(call.request):
        text, count = multipart.text(call.request, "prompt") or "", int(multipart.text(call.request, "n") or 1)
    else:
        text, count = str(call.body.get("prompt") or ""), call.body.get("n") or 1
    if not text:
        raise Refused(400, "invalid", "prompt must be a text", "prompt")
    usage = Usage(input=words(text), output=count * 272)
    details = {"text_tokens": usage.input, "image_tokens": 0}
    told = {
        "created": call.now,
        "data": [{"b64_json": base64.b64encode(PIXEL).decode()} for _ in range(count)],
        "usage": {
            "input_tokens": usage.input,
            "input_tokens_details": details,
            "output_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
        },
    }
    return Whole.json(told, usage)


def moderation(call: Call) -> Answer:
    given = call.body.get("input")
    texts = given if isinstance(given, list) else [given]
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.0}}
    told = {"id": call.id("modr-"), "model": call.model or "omni-moderation-latest", "results": [result] * len(texts)}
    return Whole.json(told, Usage())


# ---- files and batches -----------------------------------------------------------------------------------------------


def file_create(call: Call) -> Answer:
    form = multipart.parts(call.request)
    name, octets = form.get("file", (None, b""))
    purpose = form.get("purpose", (None, b""))[1].decode()
    if name is None or not purpose:
        raise Refused(400, "invalid", "a file and a purpose are needed", "file")
    return Whole.json(_put(call, call.id("file-"), name, purpose, octets), Usage())


def _put(call: Call, id: str, name: str, purpose: str, octets: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": id,
        "object": "file",
        "bytes": len(octets),
        "created_at": call.now,
        "filename": name,
        "purpose": purpose,
        "status": "processed",
    }
    call.memory.files.put(call.key, id, (told, octets))
    return told


def files(call: Call) -> Answer:
    found = [told for told, _ in call.memory.files.of(call.key)]
    return Whole.json({"object": "list", "data": found, "has_more": False}, Usage())


def _file(call: Call, id: str) -> tuple[dict[str, Any], bytes]:
    found: tuple[dict[str, Any], bytes] | None = call.memory.files.get(call.key, id)
    if found is None:
        raise Refused(404, "invalid", f"No such File object: {id}", "id")
    return found


def file(call: Call) -> Answer:
    return Whole.json(_file(call, call.parameters["id"])[0], Usage())


def file_content(call: Call) -> Answer:
    return Whole(_file(call, call.parameters["id"])[1], kind="application/octet-stream", usage=Usage())


def file_delete(call: Call) -> Answer:
    id = call.parameters["id"]
    _file(call, id)
    call.memory.files.take(call.key, id)
    return Whole.json({"id": id, "object": "file", "deleted": True}, Usage())


def batch_create(call: Call) -> Answer:
    """Done at once: its output has a line for every line of the input."""
    given = call.body.get("input_file_id", "")
    _, octets = _file(call, given)
    lines = octets.decode("utf-8", "replace").strip().splitlines()
    output = _put(call, call.id("file-out-"), "output.jsonl", "batch_output", "\n".join(lines).encode())
    told = {
        "id": call.id("batch_"),
        "object": "batch",
        "endpoint": call.body.get("endpoint"),
        "input_file_id": given,
        "completion_window": call.body.get("completion_window", "24h"),
        "status": "completed",
        "output_file_id": output["id"],
        "created_at": call.now,
        "completed_at": call.now,
        "request_counts": {"total": len(lines), "completed": len(lines), "failed": 0},
    }
    call.memory.batches.put(call.key, told["id"], told)
    return Whole.json(told, Usage())


def batches(call: Call) -> Answer:
    return Whole.json({"object": "list", "data": call.memory.batches.of(call.key), "has_more": False}, Usage())


def batch(call: Call) -> Answer:
    found = call.memory.batches.get(call.key, call.parameters["id"])
    if found is None:
        raise Refused(404, "invalid", f"No batch found with id '{call.parameters['id']}'.", "id")
    return Whole.json(found, Usage())


def batch_cancel(call: Call) -> Answer:
    batch(call)
    found = call.memory.batches.get(call.key, call.parameters["id"]) | {"status": "cancelled"}
    call.memory.batches.put(call.key, found["id"], found)
    return Whole.json(found, Usage())

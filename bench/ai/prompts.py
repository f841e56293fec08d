"""What is asked and answered: bodies in OpenAI's dialect, made of plain prose.

No body is another's beginning, so that no cache can help, and no guard finds anything in one, so that bytes come back
as they were sent. Everything is the same in every run.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

MODEL = "smart"
"""What clients ask for."""
TARGET = "gpt-4.1-mini"
"""What serves it: a model with a known price."""

PROMPT_BYTES = 2048
#: Tokens of the mixed prompts, four bytes each, in turn: half are short, one in sixteen is as long as models take.
MIX = [
    1_000,
    8_000,
    1_000,
    32_000,
    1_000,
    8_000,
    1_000,
    100_000,
    1_000,
    8_000,
    1_000,
    32_000,
    1_000,
    8_000,
    1_000,
    32_000,
]
_TURN_BYTES = 4_000

_WORDS = (
    "river stone harbour winter garden letter morning kitchen window paper market forest village summer bridge "
    "island copper lantern meadow orchard pepper quarry ribbon saddle timber valley walnut yellow anchor barley "
    "carries follows gathers listens measures opens passes reaches shelters travels under above between quietly "
    "slowly often early late the a of and with from into over for"
).split()


def prose(length: int, seed: int) -> str:
    """Exactly `length` characters of sentences."""
    chance = random.Random(seed)
    words: list[str] = []
    size = 0
    while size < length:
        sentence = [chance.choice(_WORDS) for _ in range(chance.randint(6, 14))]
        words.append(sentence[0].capitalize() + " " + " ".join(sentence[1:]) + ".")
        size += len(words[-1]) + 1
    return " ".join(words)[: length - 1] + "."


ANSWER = prose(800, 4)
_USAGE = {
    "prompt_tokens": 512,
    "completion_tokens": 180,
    "total_tokens": 692,
    "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
INPUT, OUTPUT = 512, 180
NANO_USD = (512 - 128) * 400 + 128 * 100 + 180 * 1_600
"""What such a call costs by the price in pygate's configuration."""


def answer() -> str:
    """The JSON of a whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []}
    return json.dumps(
        {
            "id": "chatcmpl-CkQm1vT0bLJq2w8s6YxZr4nDfHu9a",
            "object": "chat.completion",
            "created": 1795644596,
            "model": f"{TARGET}-2025-04-14",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_3502f4eb73",
        },
        separators=(",", ":"),
    )


def body(length: int, seed: int, **more: Any) -> bytes:
    """A conversation of `length` bytes of text, in turns of 4 KB."""
    chance = random.Random(seed)
    messages = [{"role": "system", "content": prose(300, chance.randrange(1 << 30))}]
    left, role = max(length - 300, 100), "user"
    while left > 0:
        size = left if left < 2 * _TURN_BYTES else _TURN_BYTES
        messages.append({"role": role, "content": prose(size, chance.randrange(1 << 30))})
        left, role = left - size, "assistant" if role == "user" else "user"
    messages[-1]["role"] = "user"
    call = {"model": MODEL, "messages": messages, "max_tokens": 256, **more}
    return json.dumps(call, separators=(",", ":")).encode()


def chats() -> list[bytes]:
    """Sixteen different prompts of 2 KB."""
    return [body(PROMPT_BYTES, seed) for seed in range(16)]


def mixed() -> list[bytes]:
    return [body(4 * tokens, 100 + seed) for seed, tokens in enumerate(MIX)]


def streamed() -> list[bytes]:
    return [body(PROMPT_BYTES, 1_000, stream=True, stream_options={"include_usage": True})]


def write(directory: Path, label: str, bodies: list[bytes], path: str, fields: dict[str, str]) -> list[Path]:
    """Complete requests as files, for `bench/tools`."""
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    files = []
    for number, content in enumerate(bodies):
        file = directory / f"{label}-{number}.request"
        start = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Type: application/json\r\n"
        file.write_bytes(f"{start}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        files.append(file)
    return files

"""What the demo upstream answers.

    POST /v1/chat/completions   a canned completion in OpenAI's shape that quotes the last message
    anything else               what was asked, as JSON

It shows what arrives behind the gateway, so secrets belong in no request to it. Bounded by the server it runs on.
"""

from __future__ import annotations

import time
from typing import Any

import orjson

from pygate.admin.http import Request, Response


async def answer(request: Request) -> Response:
    """One answer of the demo."""
    if request.path == "/v1/chat/completions" and request.method == "POST":
        return _completion(request)
    body = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": request.headers,
        "body": request.body.decode("utf-8", "replace"),
        "served_by": "pygate demo upstream",
    }
    return _json(body)


def _completion(request: Request) -> Response:
    try:
        asked: Any = orjson.loads(request.body)
        said = str(asked["messages"][-1]["content"])
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        error = {"message": "`messages` is missing", "type": "invalid_request_error", "param": "messages", "code": None}
        return _json({"error": error}, 400)
    text = f"This is a canned answer. The model was asked: {said}"
    prompt, completion = len(said.split()), len(text.split())
    return _json(
        {
            "id": "chatcmpl-demo",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": str(asked.get("model", "demo")),
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
        }
    )


def _json(value: Any, status: int = 200) -> Response:
    return Response(status, orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n", "application/json")

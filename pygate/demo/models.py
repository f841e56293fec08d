"""Three simulated providers of language models, for `pygate demo`: OpenAI's, Anthropic's and Google's wire formats.

They echo what they are asked and say that it took them `TOKENS` tokens; Google's streams, too. They listen on loopback.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Output of every answer.
TOKENS = 400
#: Seconds between two pieces of a stream.
PAUSE = 0.06


class Providers:
    """`with Providers() as providers:` serves them. Those whose names are put into `broken` answer 503."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"broken": self.broken}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Providers:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    broken: set[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        provider = self.path.split("/")[1]
        if provider in self.broken:
            return self._whole(503, {"error": {"message": "overloaded, as you wished", "type": "server_error"}})
        turn = (body.get("messages") or body["contents"])[-1]
        content = turn.get("content") or turn["parts"]
        asked = content if isinstance(content, str) else str(content[0]["text"])
        answer, prompt = f"I am a simulated {provider} and was asked: {asked}", len(asked.split())
        if provider == "gemini":
            streams = "streamGenerateContent" in self.path
            return self._stream(answer, prompt) if streams else self._whole(200, _gemini(answer, prompt))
        return self._whole(200, {"openai": _openai, "anthropic": _anthropic}[provider](body["model"], answer, prompt))

    def _whole(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, text: str, prompt: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        words = text.split()
        for at, word in enumerate(words, 1):
            event = f"data: {json.dumps(_gemini(f'{word} ', prompt, at == len(words)))}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(PAUSE)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """The demo says itself what happens."""


def _openai(model: str, text: str, prompt: int) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt, "completion_tokens": TOKENS, "total_tokens": prompt + TOKENS}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    told = {"id": "chatcmpl-demo", "object": "chat.completion", "created": int(time.time()), "model": model}
    return told | {"choices": [choice], "usage": usage}


def _anthropic(model: str, text: str, prompt: int) -> dict[str, Any]:
    told = {"id": "msg_demo", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn"}
    usage = {"input_tokens": prompt, "output_tokens": TOKENS}
    return told | {"content": [{"type": "text", "text": text}], "stop_sequence": None, "usage": usage}


def _gemini(text: str, prompt: int, last: bool = True) -> dict[str, Any]:
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": TOKENS, "totalTokenCount": prompt + TOKENS}
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}
    candidate |= {"finishReason": "STOP"} if last else {}
    return {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "usageMetadata": usage}

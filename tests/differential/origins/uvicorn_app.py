"""An ASGI application under uvicorn with httptools (llhttp)."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from tests.differential.origins.journal import Journal, ports

journal = Journal("uvicorn")


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body, complete = b"", False
    while not complete:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        complete = not message.get("more_body", False)
    query = scope["query_string"].decode("latin-1")
    target = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    text = journal.note(scope["server"][1], scope["client"][1], scope["method"], target, headers, body, complete)
    if not complete:
        return
    answer = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text)), (b"x-origin", b"uvicorn")]
    await send({"type": "http.response.start", "status": 200, "headers": answer})
    await send({"type": "http.response.body", "body": text})


if __name__ == "__main__":
    sockets = [socket.create_server(("127.0.0.1", port), backlog=256) for port in ports()]
    config = uvicorn.Config(
        app, http="httptools", ws="none", loop="asyncio", lifespan="off", log_level="critical", timeout_keep_alive=120
    )
    uvicorn.Server(config).run(sockets=sockets)

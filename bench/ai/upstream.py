"""The providers behind all gateways, on the core of the load, far cheaper than any gateway.

`whole`: an nginx that answers every call with the same JSON from memory, before it has read a body it does not need.
`models`: `bench/tools`, which reads bodies to their end and streams at a pace. Neither looks at keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.ai import prompts
from bench.proxy.generators import tool
from bench.proxy.origin import ORIGIN_CORE, Origin
from bench.proxy.peers import nginx_command, nginx_preamble
from bench.proxy.processes import Pinned, free_port

DELTAS = 64
PACE_MS = 20


@contextlib.contextmanager
def whole(directory: Path) -> Iterator[Origin]:
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    text = f"""{nginx_preamble(4096)}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  keepalive_requests 100000000; keepalive_timeout 600s;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/json;
    location / {{ return 200 '{prompts.answer()}'; }}
  }}
}}
"""
    yield from _running(Pinned.start("whole", ORIGIN_CORE, nginx_command(directory, text), directory), port)


@contextlib.contextmanager
def models(directory: Path) -> Iterator[Origin]:
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (directory / "answer.json").write_text(prompts.answer())
    command = tool("models", port, DELTAS, PACE_MS, directory / "answer.json")
    yield from _running(Pinned.start("models", ORIGIN_CORE, command, directory), port)


def _running(process: Pinned, port: int) -> Iterator[Origin]:
    try:
        process.wait_for_port(port)
        yield Origin([process], port, port)
    finally:
        process.stop()

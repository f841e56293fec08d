"""The upstream: an nginx of its own that answers from memory.

`/api-N/small` 1 KB · `/api-N/big` 10 MB (a file, sent with sendfile) · `/api-N/sink` reads a request body to its end,
however long, and then answers a few bytes.
"""

from __future__ import annotations

from pathlib import Path

from bench.proxy.peers import nginx_command, nginx_preamble
from bench.proxy.processes import Pinned, free_port

ORIGIN_CORE = 1
SMALL = 1024
BIG = 10 << 20


def start(directory: Path) -> tuple[Pinned, int]:
    """Starts the upstream; returns it and its port once it accepts."""
    directory.mkdir(parents=True)
    (directory / "big").write_bytes(b"0123456789abcdef" * (BIG // 16))
    port, inner = free_port(), free_port()
    # `return` would answer before the body has come. A proxied hop that forwards no body makes nginx read it all, into
    # memory, first.
    text = f"""{nginx_preamble(directory, 4096)}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  keepalive_requests 100000000; keepalive_timeout 600s;
  client_max_body_size 64m; client_body_buffer_size 11m;
  sendfile on; tcp_nopush on;
  upstream done {{ server 127.0.0.1:{inner}; keepalive 16; }}
  server {{ listen 127.0.0.1:{inner}; location / {{ return 200 "done\\n"; }} }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type text/plain;
    location ~ /small$ {{ return 200 "{"x" * SMALL}"; }}
    location ~ /big$ {{ alias {directory}/big; }}
    location ~ /sink$ {{
      proxy_pass http://done; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass_request_body off; proxy_set_header Content-Length "";
    }}
  }}
}}
"""
    pinned = Pinned.start("origin", ORIGIN_CORE, nginx_command(directory, text), directory)
    try:
        pinned.wait_for_port(port)
    except BaseException:
        pinned.stop()
        raise
    return pinned, port

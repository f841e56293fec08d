"""The upstreams: an nginx of its own that answers from memory, and `sink`, which swallows uploads.

nginx serves `/api-N/small` (1 KB) and `/api-N/big` (10 MB, a file sent with sendfile).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from bench.proxy.peers import REPOSITORY, nginx_command, nginx_preamble
from bench.proxy.processes import Pinned, free_port

ORIGIN_CORE = 1
SMALL = 1024
BIG = 10 << 20


@dataclass
class Origin:
    """Both upstreams."""

    processes: list[Pinned]
    answers: int
    """Port of nginx."""
    sink: int
    """Port of the sink."""

    def cpu_seconds(self) -> float:
        return sum(process.cpu_seconds() for process in self.processes)

    def stop(self) -> None:
        for process in self.processes:
            process.stop()


def start(directory: Path) -> Origin:
    """Starts the upstreams; returns once both accept. Raises `StartError`."""
    directory.mkdir(parents=True)
    (directory / "big").write_bytes(b"0123456789abcdef" * (BIG // 16))
    origin = Origin([], free_port(), free_port())
    text = f"""{nginx_preamble(4096)}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  keepalive_requests 100000000; keepalive_timeout 600s;
  sendfile on; tcp_nopush on;
  server {{
    listen 127.0.0.1:{origin.answers} backlog=4096;
    default_type text/plain;
    location ~ /small$ {{ return 200 "{"x" * SMALL}"; }}
    location ~ /big$ {{ alias {directory}/big; }}
  }}
}}
"""
    sink = [sys.executable, "-m", "bench.proxy.sink", str(origin.sink)]
    env = {"PYTHONPATH": str(REPOSITORY)}
    try:
        origin.processes.append(Pinned.start("origin", ORIGIN_CORE, nginx_command(directory, text), directory))
        origin.processes.append(Pinned.start("sink", ORIGIN_CORE, sink, directory, env))
        origin.processes[0].wait_for_port(origin.answers)
        origin.processes[1].wait_for_port(origin.sink)
    except BaseException:
        origin.stop()
        raise
    return origin

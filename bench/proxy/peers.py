"""The gateways under test, each configured for the same work.

Common to all: one worker or thread; 1,000 routes (100 hosts × 10 path prefixes) to one pooled upstream; one access
record per request on disk – a log line, or pygate's pair of audit records (hash-chained, with more in it than the
peers' lines; its JSON access log is a view of these, written by the control process, and off here); a request id made
and sent upstream; counters kept. Bodies are streamed, not spooled. Each finds its route as its own documentation
advises: nginx by server_name hash and location tree, HAProxy by a prefix-tree map, Envoy by virtual hosts, pygate by
its table. Envoy and HAProxy propagate no trace context here, pygate does. What is spoken on both legs is a `Shape`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.proxy.processes import Pinned, free_port
from bench.proxy.shape import GROUP, PLAIN, SUITE, Shape

HOSTS = 100
PATHS = 10
GATEWAY_CORE = 0
IDLE_CONNECTIONS = 10_000
REPOSITORY = Path(__file__).resolve().parents[2]

_MOST_CONNECTIONS = IDLE_CONNECTIONS + 2_000


def host(number: int) -> str:
    return f"svc-{number:02}.bench.test"


@dataclass
class Peer:
    """A gateway that can be started."""

    name: str
    start: Callable[[Path, int, int, Shape], Pinned]
    """`start(directory, port, upstream_port, shape)`; returns before it listens."""

    def run(self, directory: Path, upstream_port: int, shape: Shape = PLAIN) -> tuple[Pinned, int]:
        """Starts it in a directory of its own; returns it and its port once it accepts."""
        directory = directory / self.name
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        pinned = self.start(directory, port, upstream_port, shape)
        try:
            pinned.wait_for_port(port)
        except BaseException:
            pinned.stop()
            raise
        return pinned, port


def nginx_preamble(connections: int) -> str:
    """Main and events context shared by the gateway and the upstream."""
    # As root, nginx's workers would become www-data and could not read our directory.
    user = "user root;" if os.geteuid() == 0 else ""
    return (
        f"{user} worker_processes 1; daemon off; pid nginx.pid; error_log error.log warn;\n"
        f"worker_rlimit_nofile {connections * 2 + 1000};\n"
        f"events {{ worker_connections {connections}; }}\n"
    )


def nginx_command(directory: Path, text: str) -> list[str]:
    path = directory / "nginx.conf"
    path.write_text(text)
    return ["nginx", "-p", str(directory), "-c", str(path), "-e", "error.log"]


def _start_nginx(directory: Path, port: int, upstream: int, shape: Shape) -> Pinned:
    send = "grpc_pass grpc" if shape.grpc else "proxy_pass http"
    locations = "\n".join(f"    location /api-{n}/ {{ {send}://origin; }}" for n in range(PATHS))
    listen = f"127.0.0.1:{port}{' ssl' if shape.certificate else ''}{' http2' if shape.http2 else ''}"
    servers = "\n".join(
        f"  server {{ listen {listen}{' backlog=4096' if n == 0 else ''}; server_name {host(n)};\n{locations}\n  }}"
        for n in range(HOSTS)
    )
    tls = (
        f"  ssl_certificate {shape.certificate.cert}; ssl_certificate_key {shape.certificate.key};\n"
        f"  ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {SUITE}; ssl_ecdh_curve {GROUP};\n"
        if shape.certificate
        else ""
    )
    upgrade = "proxy_set_header Upgrade $http_upgrade;" if shape.websocket else ""
    text = f"""{nginx_preamble(_MOST_CONNECTIONS)}
http {{
  log_format line '$remote_addr [$time_iso8601] "$request" $status $body_bytes_sent $request_id '
                  '$host $upstream_addr $upstream_response_time $request_time';
  access_log access.log line;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server_names_hash_max_size 4096;
  client_max_body_size 64m;
  keepalive_requests 100000000; keepalive_timeout 600s;
  proxy_http_version 1.1;
  proxy_set_header Connection "{"upgrade" if shape.websocket else ""}"; {upgrade}
  proxy_set_header Host $host;
  proxy_set_header X-Request-Id $request_id;
  proxy_set_header X-Forwarded-For $remote_addr;
  grpc_set_header Host $host;
  grpc_set_header X-Request-Id $request_id;
  grpc_set_header X-Forwarded-For $remote_addr;
  proxy_request_buffering off; proxy_max_temp_file_size 0;
  upstream origin {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
{tls}{servers}
}}
"""
    return Pinned.start("nginx", GATEWAY_CORE, nginx_command(directory, text), directory)


def _start_haproxy(directory: Path, port: int, upstream: int, shape: Shape) -> Pinned:
    front = " proto h2" if shape.http2 else ""
    if shape.certificate:
        protocol = "h2" if shape.http2 else "http/1.1"
        front = (
            f" ssl crt {shape.certificate.both} alpn {protocol} ssl-min-ver TLSv1.3 ciphersuites {SUITE} curves {GROUP}"
        )
    (directory / "routes.map").write_text(
        "".join(f"{host(h)}/api-{p}/ origin\n" for h in range(HOSTS) for p in range(PATHS))
    )
    (directory / "haproxy.cfg").write_text(f"""
global
  nbthread 1
  no strict-limits
  maxconn {_MOST_CONNECTIONS}
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 600s
  timeout server 60s
  timeout http-keep-alive 600s
  timeout tunnel 600s
  http-reuse always
frontend web
  bind 127.0.0.1:{port} backlog 4096{front}
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header x-request-id
  option forwardfor
  use_backend %[base,map_beg({directory}/routes.map)]
frontend metrics
  bind 127.0.0.1:{free_port()}
  http-request use-service prometheus-exporter if {{ path /metrics }}
backend origin
  server one 127.0.0.1:{upstream} pool-max-conn 256{" proto h2" if shape.grpc else ""}
""")
    return Pinned.start("haproxy", GATEWAY_CORE, ["haproxy", "-db", "-f", "haproxy.cfg"], directory)


def write_pygate(directory: Path, port: int, upstream: int, edition: int = 0, shape: Shape = PLAIN) -> Path:
    """Writes the configuration; every edition is another revision."""
    tls = (
        f"""
[entrypoints.web.tls]
default_certificate = "bench"
options = {{ min_version = "1.3", suites = ["{SUITE}"] }}

[certificates.bench]
cert = "{shape.certificate.cert}"
key = "{shape.certificate.key}"
"""
        if shape.certificate
        else ""
    )
    routes = "".join(
        f"""
[[routes]]
name = "svc-{h:02}-api-{p}"
match = {{ host = "{host(h)}", path = "/api-{p}/**" }}
service = "origin"
{f"expose_revision = true{chr(10)}priority = {edition}" if (h, p) == (HOSTS - 1, PATHS - 1) else ""}
"""
        for h in range(HOSTS)
        for p in range(PATHS)
    )
    path = directory / "pygate.toml"
    fresh = directory / "pygate.toml.new"
    fresh.write_text(f"""
[entrypoints.web]
address = "127.0.0.1:{port}"
idle_timeout = "600s"
{tls}
[services.origin]
endpoints = ["http://127.0.0.1:{upstream}"]
{'protocol = "http2"' if shape.grpc else ""}

[workers]
count = 1

[admin]
address = ""

[audit]
dir = "{directory}/audit"
{routes}""")
    fresh.replace(path)
    return path


def _start_pygate(directory: Path, port: int, upstream: int, shape: Shape) -> Pinned:
    path = write_pygate(directory, port, upstream, shape=shape)
    # The module form keeps the bench on the very interpreter and sources it was started from.
    command = [sys.executable, "-m", "pygate.cli.main", "run", "-c", str(path), "--run-dir", str(directory / "run")]
    return Pinned.start("pygate", GATEWAY_CORE, [*command, "--no-watch"], directory, {"PYTHONPATH": str(REPOSITORY)})


def _start_envoy(directory: Path, port: int, upstream: int, shape: Shape) -> Pinned:
    from bench.proxy import envoy

    names = [(host(h), [f"/api-{p}/" for p in range(PATHS)]) for h in range(HOSTS)]
    return Pinned.start("envoy", GATEWAY_CORE, envoy.command(directory, port, upstream, shape, names), directory)


PEERS = {
    "pygate": Peer("pygate", _start_pygate),
    "nginx": Peer("nginx", _start_nginx),
    "haproxy": Peer("haproxy", _start_haproxy),
    "envoy": Peer("envoy", _start_envoy),
}

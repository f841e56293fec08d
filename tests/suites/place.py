"""The gateway that suites meet, with its upstreams."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.scene import free_address
from tests.control.running import Gateway, wait_for
from tests.suites.certificate import issue

CONFIG = """
[entrypoints.web]
address = "127.0.0.1:{web}"
head_timeout = "5s"
body_timeout = "5s"
[entrypoints.secure]
address = "127.0.0.1:{secure}"
[entrypoints.secure.tls]
[certificates.suite]
cert = "{cert}"
key = "{key}"
[admin]
address = "unix:{directory}/admin.sock"
[audit]
dir = "{directory}/audit"
[workers]
count = 1
drain_timeout = "5s"
[services.http]
endpoints = ["http://127.0.0.1:{http}"]
[services.messages]
endpoints = ["http://127.0.0.1:{messages}"]
[services.calls]
endpoints = ["http://127.0.0.1:{calls}"]
protocol = "http2"
[[routes]]
name = "tunnel"
match = {{ path = "/tunnel" }}
service = "messages"
[[routes]]
name = "aware"
match = {{ path = "/aware" }}
service = "messages"
websocket = {{ max_message = "4MiB" }}
[[routes]]
name = "calls"
match = {{ path = "/suite.Echo/**" }}
service = "calls"
[[routes]]
name = "all"
match = {{ path = "/**" }}
service = "http"
"""
#: Signs of a defect in the gateway's log.
SIGNS = ("Traceback", "panicked", "Exception ignored", "exception handler", "died")


@dataclass(frozen=True)
class Place:
    """Where suites run. The certificate is for `localhost`."""

    directory: Path
    web: int
    """Port of the entrypoint without TLS."""
    secure: int
    """Port of the entrypoint with TLS."""
    authority: Path
    """PEM file of the authority that signed the certificate."""
    gateway: Gateway

    @property
    def plain_url(self) -> str:
        return f"http://localhost:{self.web}"

    @property
    def secure_url(self) -> str:
        return f"https://localhost:{self.secure}"

    def signs(self) -> list[str]:
        """What the gateway's log says that it should not."""
        log = self.gateway.log
        return [sign for sign in SIGNS if sign in log]


class SuiteGateway(Gateway):
    text: str = ""

    def write(self, extra: str = "") -> None:
        self.config.write_text(self.text + extra)


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Everything running."""
    directory = Path(tempfile.mkdtemp(prefix="pygate-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        command = [sys.executable, "-m", "tests.suites.upstream"]
        upstream = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(upstream.wait, 10)
        stack.callback(upstream.kill)
        assert upstream.stdout is not None
        ports = json.loads(upstream.stdout.readline())
        issued = issue(directory / "certificates")
        web, secure = (int(free_address().rpartition(":")[2]) for _ in range(2))
        gateway = SuiteGateway(directory, ports["http"], count=1)
        gateway.text = CONFIG.format(
            web=web, secure=secure, cert=issued.cert, key=issued.key, directory=directory, **ports
        )
        stack.callback(gateway.close)
        process = gateway.start(wait=False)
        wait_for(lambda: process.poll() is not None or gateway.ask("/-/ready")[0] == 200, "readiness", 60)
        assert process.poll() is None, gateway.log
        yield Place(directory, web, secure, issued.authority, gateway)

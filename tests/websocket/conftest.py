"""A WebSocket upstream of the `websockets` package, one that sends events, and gateways before them."""

from __future__ import annotations

import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from tests.certificates.issuing import Authority, cert_pem
from tests.control.running import Gateway

ROUTES = """
[[routes]]
name = "read"
match = { path = "/read/**" }
service = "up"
websocket = { max_message = "2MiB", ping_interval = "500ms" }
[[routes]]
name = "guarded"
match = { path = "/guarded/**" }
service = "up"
guard = { request = ["secrets", "prompt-injection"], response = ["secrets"], max_body = "2MiB" }
websocket = { max_message = "2MiB" }
[entrypoints.secure]
address = "127.0.0.1:0"
tls = {}
[certificates.test]
cert = "tls/test.crt"
key = "tls/test.key"
"""


class Upstream:
    """Echoes messages; keeps what it got and the close codes it saw.

    `close CODE` closes with that code, `pieces` is answered in three frames, `secret` with a secret,
    `vanish` ends the connection without a word.
    """

    def __init__(self) -> None:
        self.received: list[str | bytes] = []
        self.closes: list[int | None] = []
        self.closed = threading.Condition()
        self.server: Server = serve(self._handle, "127.0.0.1", 0, max_size=4 << 20, ping_interval=None)
        self.port: int = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        try:
            for message in connection:
                self.received.append(message)
                if message == "pieces":
                    connection.send(["one ", "two ", "three"])
                elif message == "secret":
                    connection.send("the key is AKIAIOSFODNN7EXAMPL3 ok")
                elif isinstance(message, str) and message.startswith("close "):
                    connection.close(int(message.split()[1]), "as asked")
                elif message == "vanish":
                    connection.socket.shutdown(socket.SHUT_RDWR)
                else:
                    connection.send(message)
        except ConnectionClosed:
            pass
        with self.closed:
            self.closes.append(connection.close_code)
            self.closed.notify_all()

    def wait_for_close(self, count: int) -> int | None:
        """The code of the close number `count`, the first being 1."""
        with self.closed:
            assert self.closed.wait_for(lambda: len(self.closes) >= count, 10), self.closes
            return self.closes[count - 1]

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join(10)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    """What a client trusts."""
    return ssl.create_default_context(cadata=cert_pem(authority.certificate).decode())


@pytest.fixture
def start(authority: Authority) -> Iterator[Callable[..., Gateway]]:
    """Starts gateways before a port; none may have logged an uncaught error by the end."""
    running: list[Gateway] = []

    def one(port: int, extra: str = ROUTES) -> Gateway:
        gateway = Gateway(Path(tempfile.mkdtemp(prefix="pygate-")), port, count=1)
        running.append(gateway)
        authority.issue("localhost", "127.0.0.1").write(gateway.directory / "tls", "test")
        gateway.write(extra)
        gateway.start()
        return gateway

    yield one
    logs = []
    for gateway in running:
        logs.append(gateway.log)
        gateway.close()
        shutil.rmtree(gateway.directory, ignore_errors=True)
    for log in logs:
        for sign in ("Traceback", "panicked", "Exception ignored", "exception handler"):
            assert sign not in log, log

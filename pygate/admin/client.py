"""Asks a running gateway through its admin listener: for the command line. Blocks; one request per connection."""

from __future__ import annotations

import http.client
import socket
from typing import Any

import orjson

from pygate.config.address import Address

CONNECT_TIMEOUT = 2.0
ANSWER_TIMEOUT = 60.0
MAX_ANSWER = 64 << 20
#: A command line names the store it means, so that no other gateway at the same address answers.
STORE_HEADER = "x-pygate-store"


class Unreachable(Exception):
    """Nobody listens there."""


class AskError(Exception):
    """Somebody answered, but not as an admin listener does; or stopped in the middle."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_TIMEOUT)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


def ask(
    address: Address, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and JSON of the answer. Raises `Unreachable` when nothing was sent, `AskError` afterwards."""
    connection: http.client.HTTPConnection
    if address.path is not None:
        connection = _UnixConnection(address.path)
    else:
        host = "127.0.0.1" if address.host == "0.0.0.0" else "::1" if address.host == "::" else address.host
        connection = http.client.HTTPConnection(host, address.port, timeout=CONNECT_TIMEOUT)
    try:
        connection.connect()
    except OSError as e:
        connection.close()
        raise Unreachable(f"no gateway answers at {address.text}: {e.strerror or e}") from None
    try:
        connection.sock.settimeout(ANSWER_TIMEOUT)
        payload = None if body is None else orjson.dumps(body)
        connection.request(method, target, payload, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, _value(answer.read(MAX_ANSWER))
    except (OSError, http.client.HTTPException) as e:
        raise AskError(f"the gateway at {address.text} did not answer: {e}") from None
    finally:
        connection.close()


def _value(data: bytes) -> Any:
    """JSON, or plain text as an error of the same shape."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"error": {"message": data.decode(errors="replace").strip(), "expected": None, "nearest": None}}

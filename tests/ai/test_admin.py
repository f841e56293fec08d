"""Keys at the admin listener: behind its token, and never of another gateway."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import pytest

from pygate.admin.http import Request, Response
from pygate.admin.server import Admin
from pygate.ai.api import Answer
from pygate.control.process import Control


class Stub:
    """What `Admin` uses of the control process."""

    def __init__(self, token: str = "") -> None:
        self.asked: list[tuple[str, str, str, bytes]] = []
        self.told = 0
        self.late = 0
        self.loaded = self.ai = self.settings = self
        self.url = "sqlite:/x/keys.db"
        self._token = token

    def setting(self, *path: str) -> str:
        assert path == ("admin", "token")
        return self._token

    async def answer(self, method: str, path: str, query: str, body: bytes) -> tuple[Answer, bool]:
        self.asked.append((method, path, query, body))
        return Answer(201 if method == "POST" else 200, {"name": "ci"}), method != "GET"

    async def tell_keys(self) -> int:
        self.told += 1
        return self.late

    def __call__(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        given = {"host": "127.0.0.1:9901", **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = Request(method, path, "all=1", given, body)
        return asyncio.run(Admin(cast(Control, self)).handle(request))


def value(response: Response) -> Any:
    return orjson.loads(response.body)


def test_a_change_is_answered_when_workers_know() -> None:
    stub = Stub()
    made = stub("POST", "/ai/keys", b'{"name":"ci"}')
    assert (made.status, value(made)) == (201, {"name": "ci", "in_force": True})
    assert stub.asked == [("POST", "/ai/keys", "all=1", b'{"name":"ci"}')] and stub.told == 1
    stub.late = 1
    assert value(stub("DELETE", "/ai/keys/ci"))["in_force"] is False
    assert value(stub("GET", "/ai/keys")) == {"name": "ci"} and stub.told == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer s3same", "origin": "http://evil.example"}, 403),
        ({"authorization": "Bearer s3same", "x_pygate_store": "sqlite:/y/keys.db"}, 421),
        ({"authorization": "Bearer s3same", "x_pygate_store": "sqlite:/x/keys.db"}, 200),
    ],
)
def test_who_may_ask(monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int) -> None:
    monkeypatch.setenv("PYGATE_TEST_TOKEN", "s3same")
    stub = Stub("env:PYGATE_TEST_TOKEN")
    assert stub("DELETE", "/ai/keys/ci", b"", **headers).status == status
    assert len(stub.asked) == (1 if status == 200 else 0)


def test_without_token_only_this_machine_is_a_host() -> None:
    stub = Stub()
    request = Request("GET", "/ai/keys", "", {"host": "evil.example"}, b"")
    assert asyncio.run(Admin(cast(Control, stub)).handle(request)).status == 421
    assert not stub.asked

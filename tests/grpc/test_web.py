"""gRPC-Web by a raw HTTP/1.1 client, against a real grpcio server."""

from __future__ import annotations

import base64
import http.client
import struct

import pytest

from tests.grpc.conftest import Scene

ORIGIN = "https://app.example"


def framed(message: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(message)) + message


def frames(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        found.append((flags, body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def quartets(text: bytes) -> bytes:
    """Base64 that may be padded at any place."""
    return b"".join(base64.b64decode(text[at : at + 4], validate=True) for at in range(0, len(text), 4))


class Page:
    """A page's call."""

    def __init__(self, scene: Scene, name: str, kind: str, body: bytes, service: str = "t.Web") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", scene.web, timeout=20)
        headers = {"content-type": kind, "origin": ORIGIN, "x-grpc-web": "1"}
        self.connection.request("POST", f"/{service}/{name}", body, headers)
        self.answer = self.connection.getresponse()

    def field(self, name: str) -> str:
        return self.answer.headers.get(name, "")


@pytest.mark.parametrize("text", [False, True])
def test_unary_and_streams(scene: Scene, text: bool) -> None:
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    read = quartets if text else bytes
    for name, sent, expected in [("Echo", b"hello", [b"hello"]), ("Down", b"3", [b"0", b"1", b"2"])]:
        body = framed(sent)
        page = Page(scene, name, kind, base64.b64encode(body) if text else body)
        assert page.answer.status == 200 and page.field("content-type").startswith(kind.removesuffix("+proto"))
        assert page.field("access-control-allow-origin") == ORIGIN
        *messages, (flags, trailers) = frames(read(page.answer.read()))
        assert messages == [(0, message) for message in expected]
        assert flags == 0x80 and b"grpc-status: 0\r\n" in trailers


def test_pieces_come_when_they_are_said(scene: Scene) -> None:
    page = Page(scene, "Begun", "application/grpc-web-text", base64.b64encode(framed(b"x")))
    text = b""
    while len(text) < 16:
        text += page.answer.read1()
    assert quartets(text) == framed(b"first"), "whole, while the call goes on"
    page.connection.close()


def test_text_may_be_padded_anywhere(scene: Scene) -> None:
    body = framed(b"hello")
    pieces = b"".join(base64.b64encode(body[at : at + 1]) for at in range(len(body)))
    page = Page(scene, "Echo", "application/grpc-web-text", pieces)
    assert frames(quartets(page.answer.read()))[0] == (0, b"hello")


def test_trailers_of_binary_metadata_and_messages(scene: Scene) -> None:
    page = Page(scene, "Details", "application/grpc-web", framed(b"x"))
    found = frames(page.answer.read())
    lines = found[-1][1] if found else b""
    status = page.field("grpc-status") or dict(line.split(b": ", 1) for line in lines.splitlines())[b"grpc-status"]
    assert status in ("9", b"9")
    message = page.field("grpc-message").encode() or lines
    assert b"%C3%BC 100%25%0Asure" in message
    if not found:
        assert "grpc-status" in page.field("access-control-expose-headers"), "or the page could not read it"


def test_errors_of_the_gateway_are_trailers_only(scene: Scene) -> None:
    page = Page(scene, "Do", "application/grpc-web+proto", framed(b"x"), service="t.Dead")
    assert (page.answer.status, page.field("grpc-status")) == (200, "14")
    assert page.field("x-pygate-error") == "connect-failed" and page.answer.read() == b""
    page = Page(scene, "Echo", "application/grpc-web-text", b"A*AA")
    assert (page.answer.status, page.field("grpc-status")) == (200, "3")


def test_preflight_is_answered_by_cors(scene: Scene) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", scene.web, timeout=20)
    asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "content-type,x-grpc-web"
    connection.request("OPTIONS", "/t.Web/Echo", headers=asked)
    answer = connection.getresponse()
    assert answer.status in (200, 204) and "x-grpc-web" in answer.headers["access-control-allow-headers"]

"""grpcio's client and server, the gateway between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc

from tests.suites.check import Check, Checks
from tests.suites.place import Place
from tests.suites.upstream import MOST

OPTIONS = [("grpc.max_receive_message_length", MOST), ("grpc.max_send_message_length", MOST)]
LARGE = bytes(range(256)) * 40_000


def run(place: Place) -> list[Check]:
    checks = Checks("grpcio")
    credentials = grpc.ssl_channel_credentials(place.authority.read_bytes())
    with grpc.secure_channel(f"localhost:{place.secure}", credentials, OPTIONS) as channel:
        _calls(channel, checks, "TLS")
    with grpc.insecure_channel(f"localhost:{place.web}", OPTIONS) as channel:
        _calls(channel, checks, "h2c")
    return checks.found


def _calls(channel: grpc.Channel, checks: Checks, over: str) -> None:
    def method(kind: str, name: str) -> Any:
        return getattr(channel, kind)(f"/suite.Echo/{name}", lambda sent: sent, lambda received: received)

    unary, slow = method("unary_unary", "Unary"), method("unary_unary", "Slow")
    with checks.feature(f"{over}: unary"):
        assert unary(b"hello", timeout=10) == b"hello"
    with checks.feature(f"{over}: empty message"):
        assert unary(b"", timeout=10) == b""
    with checks.feature(f"{over}: client streams"):
        assert method("stream_unary", "Up")(iter([b"a", b"b", b"c"]), timeout=10) == b"a+b+c"
    with checks.feature(f"{over}: server streams"):
        assert list(method("unary_stream", "Down")(b"200", timeout=10)) == [b"%d" % n for n in range(200)]
    with checks.feature(f"{over}: both stream, in turns"):
        _turns(method("stream_stream", "Both"))
    with checks.feature(f"{over}: metadata and trailers"):
        answer, call = unary.with_call(b"x", metadata=(("x-sent", "there"),), timeout=10)
        first, last = dict(call.initial_metadata()), dict(call.trailing_metadata())
        assert answer == b"x" and first.get("x-first") == "there", first
        assert last.get("x-last") == "there" and last.get("x-last-bin") == b"\0\xff", last
    with checks.feature(f"{over}: statuses and their messages"):
        for status in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL):
            error = _refused(method("unary_unary", "Fail"), status.name.encode())
            assert error.code() == status and error.details() == "as asked: ü", (error.code(), error.details())
    with checks.feature(f"{over}: a method that is not there"):
        assert _refused(method("unary_unary", "Nowhere"), b"").code() == grpc.StatusCode.UNIMPLEMENTED
    with checks.feature(f"{over}: large messages"):
        assert unary(LARGE, timeout=20) == LARGE
    with checks.feature(f"{over}: compressed messages"):
        assert unary(b"z" * 100_000, compression=grpc.Compression.Gzip, timeout=10) == b"z" * 100_000
    with checks.feature(f"{over}: deadline"):
        began = time.monotonic()
        assert _refused(slow, b"x", timeout=0.5).code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - began < 4
    with checks.feature(f"{over}: cancellation reaches the server"):
        before = int(slow(b"cancelled", timeout=10))
        call = slow.future(b"x", timeout=20)
        time.sleep(0.3)
        call.cancel()
        until = time.monotonic() + 4
        while int(slow(b"cancelled", timeout=10)) == before:
            assert time.monotonic() < until, "the server went on"
            time.sleep(0.05)
    with checks.feature(f"{over}: 200 calls at the same time"):
        futures = [unary.future(b"%d" % n, timeout=20) for n in range(200)]
        assert [future.result() for future in futures] == [b"%d" % n for n in range(200)]


def _turns(method: Any) -> None:
    """Every message is sent after the one before came back: nothing may be held on the way."""
    free = threading.Semaphore(1)

    def messages() -> Iterator[bytes]:
        for number in range(20):
            assert free.acquire(timeout=5), "no answer to the last message"
            yield b"%d" % number

    for expected, answer in enumerate(method(messages(), timeout=15)):
        assert answer == b"%d" % expected
        free.release()
    assert expected == 19


def _refused(method: Any, message: bytes, timeout: float = 10) -> Any:
    try:
        method(message, timeout=timeout)
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")

"""The gRPC health protocol against grpcio's own server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from pygate import _core
from pygate.control.grpc_health import MAX_ANSWER, METHOD, request, status
from pygate.control.health import HealthChecker, check
from tests.control.test_health import Upstream, config, free_port, play, target, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Server:
    """A gRPC server with the health service and whatever else a test registers."""

    def __init__(self, address: str = "127.0.0.1:0", *handlers: grpc.GenericRpcHandler) -> None:
        self.health = health.HealthServicer()
        self.server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        if handlers:
            self.server.add_generic_rpc_handlers(handlers)
        else:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.port = self.server.add_insecure_port(address)
        self.url = f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def served(address: str = "127.0.0.1:0", *handlers: grpc.GenericRpcHandler) -> Iterator[Server]:
    server = Server(address, *handlers)
    server.server.start()
    try:
        yield server
    finally:
        server.server.stop(None).wait(10)


class Answers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every call with these bytes and remembers what was called."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.calls: list[tuple[str, dict[str, str | bytes], bytes]] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls.append((details.method, dict(details.invocation_metadata), body))
            return self.answer

        return grpc.unary_unary_rpc_method_handler(handle)


def asked(url: str, service: str = "", **settings: Any) -> _core.HealthTarget:
    return target(url, path=None, grpc=service, **settings)


def test_only_serving_is_healthy() -> None:
    async def story() -> None:
        with served() as server:
            assert await check(asked(server.url, timeout="5s")) == ""
            server.health.set("shop.v1.Orders", NOT_SERVING)
            assert await check(asked(server.url, "shop.v1.Orders", timeout="5s")) == "NOT_SERVING"
            server.health.set("shop.v1.Orders", SERVING)
            assert await check(asked(server.url, "shop.v1.Orders", timeout="5s")) == ""
            assert (await check(asked(server.url, "unheard.of", timeout="5s"))).startswith("NOT_FOUND")

    play(story)


def test_unix_sockets(tmp_path: Path) -> None:
    async def story() -> None:
        with served(f"unix:{tmp_path}/app.sock"):
            assert await check(asked(f"unix:{tmp_path}/app.sock", timeout="5s")) == ""

    play(story)


def test_the_call_is_the_protocols() -> None:
    async def story() -> None:
        answers = Answers(b"\x08\x01")
        with served("127.0.0.1:0", answers) as server:
            assert await check(asked(server.url, "a.B", timeout="5s")) == ""
        ((method, metadata, body),) = answers.calls
        assert method == METHOD
        assert str(metadata["user-agent"]).startswith("pygate-health ")
        assert health_pb2.HealthCheckRequest.FromString(body).service == "a.B"

    play(story)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "UNKNOWN"),
        (b"\x08\x03", "SERVICE_UNKNOWN"),
        (b"\x08\x2a", "status 42"),
        (b"\x08", "not a HealthCheckResponse"),
        (b"\x0a\x01\x01", "not a HealthCheckResponse"),
        (b"<html>", "not a HealthCheckResponse"),
        (b"\x12" + b"\x80\x20" + b"x" * MAX_ANSWER, "RESOURCE_EXHAUSTED"),
    ],
)
def test_other_answers_are_not(answer: bytes, reason: str) -> None:
    async def story() -> None:
        with served("127.0.0.1:0", Answers(answer)) as server:
            assert reason in await check(asked(server.url, timeout="5s"))

    play(story)


def test_refused_silent_and_foreign_endpoints_fail_in_time() -> None:
    async def story() -> None:
        assert "UNAVAILABLE" in await check(asked(f"http://127.0.0.1:{free_port()}", timeout="5s"))
        upstream = Upstream()
        async with upstream.tcp() as url:
            assert await check(asked(url, timeout="2s")) != "", "HTTP/1 only"
        quiet = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        async with quiet:
            url = f"http://127.0.0.1:{quiet.sockets[0].getsockname()[1]}"
            begun = asyncio.get_running_loop().time()
            assert await check(asked(url, timeout="200ms")) == "no answer within 0.2 s"
            assert asyncio.get_running_loop().time() - begun < 5

    play(story)


def test_the_checker_follows_a_server(tmp_path: Path) -> None:
    shared = _core.Shared.create(tmp_path / "shared", 1)

    async def story() -> None:
        with served() as server:
            server.health.set("s", SERVING)
            key = _core.endpoint_key("s", server.url)
            checker = HealthChecker(shared)
            checker.update(config([server.url], path=None, grpc="s", timeout="5s"))
            await until(lambda: shared.health(key) is True)
            server.health.set("s", NOT_SERVING)
            await until(lambda: shared.health(key) is False)
            server.health.set("s", SERVING)
            await until(lambda: shared.health(key) is True)
            await checker.close()

    play(story)


def test_messages_as_protobuf_writes_and_reads_them() -> None:
    for name in ["", "a", "shop.v1.Orders", "x" * 200, "dienst-\u00fc"]:
        assert request(name) == health_pb2.HealthCheckRequest(service=name).SerializeToString()
    for number in range(4):
        message = health_pb2.HealthCheckResponse(status=number)
        assert status(message.SerializeToString()) == number
    # The last one counts; fields of other versions are passed over.
    assert status(b"\x08\x02\x08\x01") == 1
    assert status(b"\x12\x02hi\x08\x01\x1d\0\0\0\0\x21" + bytes(8) + b"\x28\x05") == 1
    for bad in [
        b"\x08\x80",
        b"\x08" + b"\xff" * 10 + b"\x01",
        b"\x12\x05hi",
        b"\x1d\0",
        b"\x0b",
        b"\x00\x01",
        b"\x08\x01\xff",
    ]:
        with pytest.raises(ValueError):
            status(bad)

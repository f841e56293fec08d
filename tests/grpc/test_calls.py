"""Calls of every kind, their deadlines and statuses, from grpcio to grpcio."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest

from tests.grpc.conftest import Scene

LARGE = bytes(range(256)) * (4 << 12)


def method(channel: grpc.Channel, name: str, kind: str = "unary_unary") -> Any:
    path = name if name.startswith("/") else f"/t.Calls/{name}"
    return getattr(channel, kind)(path, lambda sent: sent, lambda received: received)


def refused(call: Any, message: Any = b"x", timeout: float = 10) -> Any:
    with pytest.raises(grpc.RpcError) as error:
        call(message, timeout=timeout)
    return error.value


def test_every_kind_of_call_passes(channel: grpc.Channel) -> None:
    answer, call = method(channel, "Echo").with_call(b"hello", timeout=10)
    assert answer == b"hello" and dict(call.trailing_metadata())["x-last-bin"] == b"\0\xff"
    assert method(channel, "Up", "stream_unary")(iter([b"a", b"b"]), timeout=10) == b"a+b"
    assert list(method(channel, "Down", "unary_stream")(b"50", timeout=10)) == [b"%d" % n for n in range(50)]
    sent = [b"%d" % n for n in range(20)]
    assert list(method(channel, "Both", "stream_stream")(iter(sent), timeout=10)) == sent


def test_messages_of_4_mb_pass_both_ways(channel: grpc.Channel) -> None:
    assert len(LARGE) == 4 << 20
    assert method(channel, "Echo")(LARGE, timeout=60) == LARGE


def test_status_message_and_details_pass(channel: grpc.Channel) -> None:
    error = refused(method(channel, "Details"))
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "ü 100%\nsure")
    assert dict(error.trailing_metadata())["grpc-status-details-bin"] == b"\x08\x09\x12\x02no"


def test_the_time_left_goes_upstream(scene: Scene, channel: grpc.Channel) -> None:
    left = float(method(channel, "Left")(b"", timeout=20))
    assert 15 < left <= 20
    method(channel, "Echo")(b"x", timeout=20)
    assert "te" not in scene.server.metadata[-1], "consumed by the server's HTTP/2, not metadata"


def test_deadlines_run_out_at_both_ends(scene: Scene, channel: grpc.Channel) -> None:
    scene.server.cancelled.clear()
    began = time.monotonic()
    assert refused(method(channel, "Wait"), timeout=0.5).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 5 and scene.server.cancelled.wait(5)
    # The route's own goes upstream, too: whichever end is first says so.
    scene.server.cancelled.clear()
    assert refused(method(channel, "Short"), timeout=20).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 10 and scene.server.cancelled.wait(5)


def test_cancelling_reaches_the_server(scene: Scene, channel: grpc.Channel) -> None:
    scene.server.cancelled.clear()
    answers = method(channel, "Begun", "unary_stream")(b"x", timeout=20)
    assert next(answers) == b"first"
    answers.cancel()
    assert scene.server.cancelled.wait(5)


def test_unavailable_is_tried_again(scene: Scene, channel: grpc.Channel) -> None:
    before = scene.server.tries
    assert method(channel, "Flaky")(b"again", timeout=10) == b"again"
    assert scene.server.tries == before + 2


def test_errors_of_the_gateway_are_statuses(scene: Scene, channel: grpc.Channel) -> None:
    error = refused(method(channel, "/t.Nowhere/Do"))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "No route matches")
    told = dict(error.initial_metadata() or ()) | dict(error.trailing_metadata() or ())
    assert told["x-pygate-error"] == "no-route" and len(told["x-request-id"]) == 36
    error = refused(method(channel, "/t.Dead/Do"))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "Upstream unreachable")
    error = refused(method(channel, "Small"), b"x" * 2000)
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Request body too large")
    codes = [call.code() for call in (method(channel, "Limited").future(b"x", timeout=10) for _ in range(3))]
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
    call = scene.outcome(lambda call: call.get("code") == "connect-failed")
    assert (call["status"], call["grpc_status"], call["path"]) == (200, "UNAVAILABLE", "/t.Dead/Do")


@pytest.mark.parametrize(
    ("http", "status"), [(503, "UNAVAILABLE"), (401, "UNAUTHENTICATED"), (404, "UNIMPLEMENTED"), (200, "UNKNOWN")]
)
def test_pages_become_statuses(channel: grpc.Channel, http: int, status: str) -> None:
    error = refused(method(channel, f"/t.Pages/{http}"))
    assert error.code() == getattr(grpc.StatusCode, status), error.details()
    assert "upstream" in error.details()


def test_a_server_that_dies_between_messages_ends_the_call_in_a_status() -> None:
    """See `exchange/tests/grpc.rs` for the same within a message, which ends in a reset."""
    from tests.grpc import dying

    with dying.scene() as (channel, kill, seen):
        answers = method(channel, "Begun", "unary_stream")(b"x", timeout=20)
        assert next(answers) == b"first"
        assert ("te", "trailers") in seen and ("content-type", "application/grpc") in seen
        kill()
        with pytest.raises(grpc.RpcError) as error:
            next(answers)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        assert error.value.details() == "Upstream closed early"


def test_records_and_metrics_know_the_status(scene: Scene) -> None:
    with scene.channel("h2c") as channel:
        refused(method(channel, "Details"))
        method(channel, "Echo")(b"x", timeout=10)
    call = scene.outcome(lambda call: call["path"] == "/t.Calls/Details")
    assert (call["status"], call["grpc_status"]) == (200, "FAILED_PRECONDITION")
    assert scene.outcome(lambda call: call["path"] == "/t.Calls/Echo")["grpc_status"] == "OK"
    told = [scene.audit("list"), scene.audit("show", call["exchange"])]
    assert "grpc 9" in told[0] and "grpc 0" in told[0] and "grpc 9 FAILED_PRECONDITION" in told[1], told
    status, body = scene.gateway.ask("/metrics")
    lines = [
        line for line in body.decode().splitlines() if line.startswith("http_server_request_duration_seconds_count")
    ]
    assert status == 200
    for number in (0, 9):
        assert any(f'rpc_grpc_status_code="{number}"' in line and 'rpc_system="grpc"' in line for line in lines), lines

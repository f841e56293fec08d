"""One call of the gRPC health protocol (`grpc.health.v1.Health/Check`).

Rules:

1. A call has a connection of its own, which is closed behind it; no proxy of the environment, no retries, no
   compression, and answers of a few bytes only.
2. The two messages are written and read here: one string and one number need no generated code. Fields that are not
   known are passed over, as protobuf has it; what is no message is a failure.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

# Workers are spawned, never forked with a life of their own: grpcio's fork handlers would only delay them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc

if TYPE_CHECKING:
    from pygate._core import HealthTarget
    from pygate.control.health_tls import EndpointTls

METHOD = "/grpc.health.v1.Health/Check"
SERVING = 1
#: `HealthCheckResponse.ServingStatus`.
STATUSES = {0: "UNKNOWN", SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
#: Longest answer that is read, in bytes.
MAX_ANSWER = 4096


async def serving(target: HealthTarget, service: str, tls: EndpointTls | None = None) -> str:
    """Asks an endpoint about `service`; returns why it is not serving, or an empty string.

    Over TLS grpcio always verifies and knows no pins: a service that turns that off is not asked, and says so.
    """
    options: list[tuple[str, str | int]] = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.max_receive_message_length", MAX_ANSWER),
        ("grpc.default_authority", target["host_header"]),
        ("grpc.primary_user_agent", "pygate-health"),
    ]
    if tls is None:
        made = grpc.aio.insecure_channel(address(target), options=options)
    elif tls.service.get("insecure_skip_verify") or tls.service.get("pins"):
        return "the gRPC health check cannot skip verification or check pins: use `health.path`"
    else:
        roots, key, chain = await asyncio.to_thread(tls.files)
        options.append(("grpc.ssl_target_name_override", tls.server_name(target["host"])))
        made = grpc.aio.secure_channel(
            address(target), grpc.ssl_channel_credentials(roots, key, chain), options=options
        )
    async with made as channel:
        check = channel.unary_unary(METHOD, request_serializer=request, response_deserializer=bytes)
        try:
            answer = await check(service, timeout=target["timeout"])
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError from None
            return f"{e.code().name}: {e.details()}"
    try:
        found = status(answer)
    except ValueError:
        return "the answer is not a HealthCheckResponse"
    return "" if found == SERVING else STATUSES.get(found, f"status {found}")


def address(target: HealthTarget) -> str:
    """The endpoint as gRPC names it."""
    if target["socket"]:
        return f"unix:{target['socket']}"
    host = f"[{target['host']}]" if ":" in target["host"] else target["host"]
    return f"dns:///{host}:{target['port']}"


def request(service: str) -> bytes:
    """`HealthCheckRequest`: field 1, a string; a default is not written."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def status(answer: bytes) -> int:
    """Field 1 of a `HealthCheckResponse`, an enum; 0 when it is absent. Raises `ValueError`."""
    found = 0
    at = 0
    while at < len(answer):
        tag, at = _read_varint(answer, at)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise ValueError("field 0")
        if wire == 0:
            value, at = _read_varint(answer, at)
            found = value if field == 1 else found
            continue
        if field == 1:
            raise ValueError(f"an enum of wire type {wire}")
        if wire == 2:
            length, at = _read_varint(answer, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        at += length
    if at != len(answer):
        raise ValueError("cut")
    return found


def _varint(value: int) -> bytes:
    def groups() -> Iterator[int]:
        rest = value
        while rest > 0x7F:
            yield rest & 0x7F | 0x80
            rest >>= 7
        yield rest

    return bytes(groups())


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("cut")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")

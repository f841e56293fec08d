"""The cases of single protocols: TLS, HTTP/2, WebSocket, gRPC. Routes, logs and upstream are those of the GET row.

- `tls`: GET over TLS 1.3 with keep-alive; full handshakes with one GET each, never resumed; idle connections.
- `h2`: GET over HTTP/2 and TLS 1.3, 16 connections with 10 streams each, to an upstream that speaks HTTP/1.1.
- `ws`: text messages of 125 bytes on 128 connections, echoed by the upstream; bytes are tunnelled. One request of the
  row is one message there and back.
- `grpc`: unary calls with 100 bytes each way, h2c on both legs, 16 connections with 10 streams each.
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.proxy import load
from bench.proxy.cases import Bench, Row, compare, serving, summarise
from bench.proxy.generators import H2Load, openssl_environment, tool
from bench.proxy.load import Sample, Work
from bench.proxy.origin import ORIGIN_CORE, Origin
from bench.proxy.peers import host
from bench.proxy.processes import Pinned, free_port
from bench.proxy.shape import Certificate, Shape

HANDSHAKES = 16
"""Connections being made at the same time."""
MESSENGERS = 128
MESSAGE = 125
CALL = 100
HELD = 2_500
"""Idle TLS connections."""


@dataclass
class Protocol:
    """One row: what is spoken, and a generator, `generate(port, seconds)`, with how its output is read."""

    title: str
    shape: Shape
    generate: Callable[[int, float], str]
    read: Callable[[str], dict[str, float]] = load.read
    #: The upstream; None: the nginx of all cases.
    upstream: Origin | None = None
    #: Called with a gateway's port before it is measured; raises RuntimeError when the gateway does not do the work.
    check: Callable[[int], None] = lambda port: None


def tls(bench: Bench) -> list[Row]:
    shape = Shape(Certificate.make(bench.directory))
    work = Work("GET", "small", tls=openssl_environment(bench.directory))
    path = load.script(bench.directory, work)
    get = Protocol("tls-get", shape, lambda port, seconds: load.wrk(path, port, work, seconds))
    return measure(bench, get) + measure(bench, Protocol("tls-handshake", shape, _handshakes)) + memory(bench, shape)


def _handshakes(port: int, seconds: float) -> str:
    return load.run(tool("handshake", port, host(0), HANDSHAKES, seconds))


def h2(bench: Bench) -> list[Row]:
    generator = H2Load(bench.directory, "small", tls=True)
    shape = Shape(Certificate.make(bench.directory), http2=True)
    return measure(bench, Protocol("h2-10", shape, generator.run, generator.read))


def ws(bench: Bench) -> list[Row]:
    with upstream(bench, "echo") as origin:
        return measure(bench, Protocol("ws", Shape(websocket=True), _messages, upstream=origin))


def _messages(port: int, seconds: float) -> str:
    return load.run(tool("messages", port, MESSENGERS, seconds, MESSAGE))


def grpc(bench: Bench) -> list[Row]:
    with upstream(bench, "calls") as origin:
        generator = H2Load(bench.directory, "Call", message=b"c" * CALL)
        shape = Shape(http2=True, grpc=True)
        return measure(bench, Protocol("grpc", shape, generator.run, generator.read, origin, check_call))


def check_call(port: int) -> None:
    """One call by grpcio must come back with its message and status 0: h2load does not read trailers."""
    import grpc

    options = [("grpc.default_authority", host(0))]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        call = channel.unary_unary("/api-0/Call", lambda sent: sent, lambda received: received)
        try:
            answer = call(b"c" * CALL, timeout=10)
        except grpc.RpcError as error:
            raise RuntimeError(f"a gRPC call failed: {error.code()}, {error.details()}") from None
    if answer != b"c" * CALL:
        raise RuntimeError(f"a gRPC call came back with {answer!r}")


PROTOCOLS: dict[str, Callable[[Bench], list[Row]]] = {"tls": tls, "h2": h2, "ws": ws, "grpc": grpc}


def measure(bench: Bench, protocol: Protocol) -> list[Row]:
    """The rounds of one row, gateways interleaved."""
    origin = protocol.upstream or bench.origin
    samples: dict[str, list[Sample]] = {name: [] for name in bench.peers}
    with bench.gateways(bench.peers, protocol.title, origin.answers, protocol.shape) as running:
        for name, (_, port) in running.items():
            bench.say(f"{protocol.title}: warming {name}")
            if protocol.shape.certificate:
                wait_for_handshake(port)
            protocol.check(port)
            protocol.read(protocol.generate(port, 1.0))
        for number in range(bench.plan.rounds):
            for name, (gateway, port) in running.items():
                bench.say(f"{protocol.title}: round {number + 1} of {bench.plan.rounds}, {name}")
                run = functools.partial(protocol.generate, port, bench.plan.seconds)
                samples[name].append(load.charge(run, protocol.read, gateway, origin))
    return compare([summarise(protocol.title, name, found) for name, found in samples.items()], "cpu_us_per_request")


def wait_for_handshake(port: int, seconds: float = 20.0) -> None:
    """Returns when a handshake succeeds: a port may accept before certificates are there. Raises RuntimeError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    until = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as plain:
                context.wrap_socket(plain, server_hostname=host(0)).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise RuntimeError(f"no TLS handshake on port {port} after {seconds:.0f} s: {error}") from None
            time.sleep(0.2)


def memory(bench: Bench, shape: Shape) -> list[Row]:
    """What a TLS connection costs that made one request and then waits."""
    rows = []
    for name in bench.peers:
        bench.say(f"memory-tls: {HELD} idle connections, {name}")
        with bench.gateways([name], "memory-tls", bench.origin.answers, shape) as running:
            gateway, port = running[name]
            wait_for_handshake(port)
            _handshakes(port, 1)
            before = gateway.rss_bytes()
            with held(port) as count:
                time.sleep(1)
                after = gateway.rss_bytes()
            each = (sum(after.values()) - sum(before.values())) / max(1, count) / 1024
            worker = before.get(serving(gateway, before), 0) / 2**20
            row = Row("memory-tls", name, requests=count, errors=HELD - count, kb_per_connection=each, rss_mb=worker)
            rows.append(row)
    return compare(rows, "kb_per_connection")


@contextlib.contextmanager
def held(port: int) -> Iterator[int]:
    """Connections that made one request and wait; how many there are."""
    command = ["taskset", "--cpu-list", str(ORIGIN_CORE), *tool("hold", port, host(0), HELD, "tls")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        yield int(json.loads(process.stdout.readline())["held"])
    finally:
        process.stdin.close()
        process.wait(30)


@contextlib.contextmanager
def upstream(bench: Bench, kind: str) -> Iterator[Origin]:
    """An upstream of `bench/tools` in the place of nginx."""
    port = free_port()
    process = Pinned.start(kind, ORIGIN_CORE, tool(kind, port), bench.directory)
    try:
        process.wait_for_port(port)
        yield Origin([process], port, port)
    finally:
        process.stop()

"""An OTLP receiver: the OpenTelemetry proto packages over real HTTP and real gRPC."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

REQUESTS: dict[str, Any] = {
    "traces": trace_service_pb2.ExportTraceServiceRequest,
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
    "logs": logs_service_pb2.ExportLogsServiceRequest,
}
RESPONSES: dict[str, Any] = {
    "traces": trace_service_pb2.ExportTraceServiceResponse,
    "metrics": metrics_service_pb2.ExportMetricsServiceResponse,
    "logs": logs_service_pb2.ExportLogsServiceResponse,
}


class Received:
    """What came in, by signal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: dict[str, list[Any]] = {"traces": [], "metrics": [], "logs": []}
        self.headers: list[dict[str, str]] = []
        #: Requests still to be refused with a status that may not be repeated.
        self.refuse = 0
        self.refused = 0

    def take(self, signal: str, request: Any, headers: dict[str, str]) -> bool:
        with self._lock:
            if self.refuse:
                self.refuse -= 1
                self.refused += 1
                return False
            self.requests[signal].append(request)
            self.headers.append(headers)
            return True

    def spans(self) -> list[Any]:
        return [s for r in self.requests["traces"] for g in r.resource_spans for c in g.scope_spans for s in c.spans]

    def logs(self) -> list[Any]:
        groups = [g for r in self.requests["logs"] for g in r.resource_logs]
        return [record for g in groups for c in g.scope_logs for record in c.log_records]

    def metrics(self) -> dict[str, Any]:
        """The last value of every metric, by name."""
        groups = [g for r in self.requests["metrics"] for g in r.resource_metrics]
        return {metric.name: metric for g in groups for c in g.scope_metrics for metric in c.metrics}

    def resource(self, signal: str) -> dict[str, Any]:
        last = self.requests[signal][-1]
        groups = {"traces": "resource_spans", "metrics": "resource_metrics", "logs": "resource_logs"}
        return plain(getattr(last, groups[signal])[0].resource.attributes)


def plain(attributes: Iterator[KeyValue] | Any) -> dict[str, Any]:
    return {item.key: _value(item.value) for item in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


class HttpReceiver:
    """OTLP/HTTP with protobuf bodies on an ephemeral port of loopback."""

    protocol = "http"

    def __init__(self, port: int = 0) -> None:
        received = self.received = Received()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                signal = self.path.removeprefix("/v1/")
                assert self.headers["content-type"] == "application/x-protobuf"
                request = REQUESTS[signal].FromString(body)
                taken = received.take(signal, request, {k.lower(): v for k, v in self.headers.items()})
                answer = RESPONSES[signal]().SerializeToString() if taken else b""
                self.send_response(200 if taken else 400)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class GrpcReceiver:
    """OTLP/gRPC on an ephemeral port of loopback."""

    protocol = "grpc"

    def __init__(self, port: int = 0) -> None:
        self.received = Received()
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        services: list[tuple[str, Any, Any]] = [
            ("traces", trace_service_pb2_grpc.TraceServiceServicer, trace_service_pb2_grpc),
            ("metrics", metrics_service_pb2_grpc.MetricsServiceServicer, metrics_service_pb2_grpc),
            ("logs", logs_service_pb2_grpc.LogsServiceServicer, logs_service_pb2_grpc),
        ]
        for signal, base, module in services:
            add = getattr(module, f"add_{base.__name__}_to_server")
            add(self._servicer(signal, base)(), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.url = f"http://127.0.0.1:{self.port}"
        self._server.start()

    def _servicer(self, signal: str, base: Any) -> Any:
        received = self.received

        class Servicer(base):  # type: ignore[misc]
            def Export(self, request: Any, context: Any) -> Any:
                if not received.take(signal, request, dict(context.invocation_metadata())):
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused by the test")
                return RESPONSES[signal]()

        return Servicer

    def stop(self) -> None:
        self._server.stop(0).wait()

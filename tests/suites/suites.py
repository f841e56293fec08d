"""All suites, by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.suites import (
    by_grpcio,
    by_httpx,
    by_websockets,
    curl,
    go,
    h2load,
    nghttp,
    node,
    openssl,
    promtool,
    slowhttptest,
    sslyze,
)
from tests.suites.check import Check
from tests.suites.place import Place

SUITES: dict[str, Callable[[Place], list[Check]]] = {
    "curl": curl.run,
    "httpx": by_httpx.run,
    "node": node.run,
    "go": go.run,
    "grpcio": by_grpcio.run,
    "websockets": by_websockets.run,
    "h2load": h2load.run,
    "nghttp": nghttp.run,
    "openssl": openssl.run,
    "sslyze": sslyze.run,
    "slowhttptest": slowhttptest.run,
    "promtool": promtool.run,
}


def summary(found: list[Check]) -> str:
    """Clients, features, and how many of them work."""
    clients = len({check.client for check in found})
    failed = sum(not check.ok for check in found)
    return f"clients={clients} features={len(found)} passed={len(found) - failed} failed={failed}"

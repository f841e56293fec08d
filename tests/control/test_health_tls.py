"""Health checks over TLS: an endpoint that workers would not trust is not healthy."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import orjson
import pytest

from pygate import _core
from pygate.control.health import check
from pygate.control.health_tls import endpoints
from tests.certificates.issuing import Authority, cert_pem
from tests.control.test_health import play

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def _asked(directory: Path, tls: dict[str, Any], authority: Authority) -> str:
    """Why a check of an endpoint with a certificate of `authority` fails, by a service with this `tls` table."""
    authority.issue("up.test").write(directory, "up")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "up.crt", directory / "up.key")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        service = {"endpoints": [f"https://127.0.0.1:{port}"], "health": {"path": "/"}, "tls": tls}
        config = {"services": {"up": service}}
        (target,) = _core.health_targets(orjson.dumps(config))
        assert target["tls"]
        return await check(target, endpoints(config, directory)["up"])


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        ({"ca": "ca.pem", "server_name": "up.test"}, ""),
        ({"ca": "ca.pem", "server_name": "other.test"}, "Hostname mismatch"),
        ({"ca": "other.pem", "server_name": "up.test"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"insecure_skip_verify": True}, ""),
        ({"insecure_skip_verify": True, "pins": ["sha256/AAAA"]}, "none of those pinned"),
        ({"ca": "missing.pem"}, "No such file"),
    ],
)
def test_an_endpoint_must_be_who_it_should_be(tmp_path: Path, tls: dict[str, Any], reason: str) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(cert_pem(authority.certificate))
    (tmp_path / "other.pem").write_bytes(cert_pem(Authority("Other").certificate))

    async def story() -> None:
        said = await _asked(tmp_path, tls, authority)
        assert (reason in said) if reason else said == "", said

    play(story)

"""Pebble, Let's Encrypt's ACME server for tests, with a DNS server that answers 127.0.0.1 to everything."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.certificates.issuing import Authority, cert_pem

#: Pebble refuses this share of good nonces (percent), so that retrying is part of every test.
BAD_NONCES = 25
BLOCKED = "blocked.example.com"
EAB = {"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def executable(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed: make packages"
    return found


@dataclass
class Pebble:
    port: int
    #: Where it looks for proofs.
    http_port: int
    tls_port: int
    #: File with the root of its own certificate.
    ca: Path
    log: Path

    @property
    def directory(self) -> str:
        return f"https://localhost:{self.port}/dir"

    def account(self, kept_in: Path, **more: Any) -> dict[str, Any]:
        """A table for `[acme.NAME]`."""
        return {
            "directory": self.directory,
            "agree_to_terms": True,
            "email": "ops@example.com",
            "ca": str(self.ca),
            "dir": str(kept_in),
            **more,
        }


@contextlib.contextmanager
def running(
    directory: Path,
    http_port: int | None = None,
    tls_port: int | None = None,
    validity: int = 90 * 86400,
    binding: bool = False,
    port: int | None = None,
) -> Iterator[Pebble]:
    """A server whose certificates hold `validity` seconds; `binding`: accounts need one of `EAB`."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = Authority("Pebble's own root")
    authority.issue("localhost", "127.0.0.1").write(directory, "pebble")
    ca = directory / "ca.pem"
    ca.write_bytes(cert_pem(authority.certificate))
    pebble = Pebble(port or free_port(), http_port or free_port(), tls_port or free_port(), ca, directory / "log")
    dns = free_port()
    settings: dict[str, Any] = {
        "listenAddress": f"127.0.0.1:{pebble.port}",
        "managementListenAddress": "",
        "certificate": str(directory / "pebble.crt"),
        "privateKey": str(directory / "pebble.key"),
        "httpPort": pebble.http_port,
        "tlsPort": pebble.tls_port,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": binding,
        "domainBlocklist": [BLOCKED],
        "keyAlgorithm": "ecdsa",
        "profiles": {"default": {"description": "for tests", "validityPeriod": validity}},
    }
    if binding:
        settings["externalAccountMACKeys"] = EAB
    (directory / "pebble.json").write_text(json.dumps({"pebble": settings}))
    environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": str(BAD_NONCES)}
    off = [item for name in ("http01", "https01", "tlsalpn01", "doh", "management") for item in (f"-{name}", "")]
    resolver = [executable("pebble-challtestsrv"), *off, "-dnsserver", f"127.0.0.1:{dns}", "-defaultIPv6", ""]
    server = [
        executable("pebble"),
        "-config",
        str(directory / "pebble.json"),
        "-dnsserver",
        f"127.0.0.1:{dns}",
    ]
    processes: list[subprocess.Popen[bytes]] = []
    with pebble.log.open("ab") as log:
        try:
            for command in (resolver, server):
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
            _wait(pebble, processes)
            yield pebble
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(10)


def _wait(pebble: Pebble, processes: list[subprocess.Popen[bytes]]) -> None:
    trust = ssl.create_default_context(cafile=str(pebble.ca))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert all(p.poll() is None for p in processes), pebble.log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(pebble.directory, context=trust, timeout=5):
            return
        time.sleep(0.05)
    raise AssertionError(f"Pebble does not answer: {pebble.log.read_text()}")

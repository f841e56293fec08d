"""Certificates of a whole gateway: real workers show what is on disk, and what ACME brings."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.certificates import pebble
from tests.certificates.issuing import Authority, Leaf, key_pem, new_key
from tests.certificates.pebble import free_port
from tests.control.running import Gateway, wait_for


@pytest.fixture
def upstream() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def gateway(tmp_path: Path, upstream: int) -> Iterator[Gateway]:
    found = Gateway(tmp_path, upstream, address=f"127.0.0.1:{free_port()}")
    yield found
    found.close()


def shown(port: int, name: str, session: ssl.SSLSession | None = None) -> tuple[bytes, bool]:
    """The leaf (DER) that a client asking for `name` is shown, after a request; and whether a session went on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=name, session=session) as secure:
            secure.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while piece := secure.recv(65536):
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            leaf = secure.getpeercert(binary_form=True)
            assert leaf is not None
            return leaf, bool(secure.session_reused)


def shows(port: int, name: str, leaf: Leaf) -> bool:
    """Whether every worker shows this certificate: asked so often that none is likely to be left out."""
    der = leaf.certificate.public_bytes(serialization.Encoding.DER)
    with contextlib.suppress(ssl.SSLError):
        return all(shown(port, name)[0] == der for _ in range(12))
    return False


def test_files_that_change_are_shown_and_broken_ones_are_not(gateway: Gateway, tmp_path: Path) -> None:
    authority, port = Authority(), free_port()
    tls = tmp_path / "tls"
    first = authority.issue("shop.example.com")
    first.write(tls, "shop")
    gateway.write(
        f'[entrypoints.secure]\naddress = "127.0.0.1:{port}"\ntls = {{}}\n'
        '[certificates.shop]\ncert = "tls/shop.crt"\nkey = "tls/shop.key"\n'
    )
    gateway.start()
    assert shows(port, "shop.example.com", first)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        shown(port, "other.example.com")
    revision, workers = gateway.state()["revision"], gateway.workers()
    second = authority.issue("shop.example.com")
    second.write(tls, "shop")
    wait_for(lambda: shows(port, "shop.example.com", second), "the second certificate")
    (tls / "shop.key").write_bytes(key_pem(new_key()))
    wait_for(lambda: "does not belong to the certificate" in gateway.log, "the complaint")
    assert shows(port, "shop.example.com", second)
    third = authority.issue("shop.example.com")
    third.write(tls, "shop")
    wait_for(lambda: shows(port, "shop.example.com", third), "the third certificate")
    # Nothing else has changed, and no worker has.
    assert gateway.state()["revision"] == revision and gateway.workers() == workers
    status, body = gateway.ask("/metrics")
    assert status == 200
    lines = body.decode().splitlines()
    assert any(line.startswith('pygate_certificate_expiry_seconds{pygate_certificate="shop"} 77') for line in lines)
    assert 'pygate_certificate_updates_total{pygate_result="failed"} 1' in lines
    # A worker that is started now has the certificate in force, too.
    slot, pid = next(iter(workers.items()))
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: gateway.workers().get(slot) not in (None, pid), "another worker")
    assert shows(port, "shop.example.com", third)


def test_a_start_or_reload_with_a_broken_certificate_changes_nothing(gateway: Gateway, tmp_path: Path) -> None:
    authority, port = Authority(), free_port()
    first = authority.issue("shop.example.com")
    entrypoint = f'[entrypoints.secure]\naddress = "127.0.0.1:{port}"\ntls = {{}}\n'
    certificate = '[certificates.shop]\ncert = "tls/shop.crt"\nkey = "tls/shop.key"\n'
    gateway.write(entrypoint + certificate)
    command = [sys.executable, "-m", "pygate.cli.main", "run", "-c", str(gateway.config), "--run-dir"]
    done = subprocess.run([*command, str(tmp_path / "other")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "`tls/shop.crt` does not exist" in done.stderr
    first.write(tmp_path / "tls", "shop")
    gateway.start()
    revision = gateway.state()["revision"]
    gateway.write(entrypoint + certificate + '[certificates.more]\ncert = "tls/more.crt"\nkey = "tls/more.key"\n')
    wait_for(lambda: gateway.state()["last_reload"]["ok"] is False, "the refused reload")
    problems = gateway.state()["last_reload"]["problems"]
    assert [p["path"] for p in problems] == ["certificates.more.cert"]
    assert gateway.state()["revision"] == revision and shows(port, "shop.example.com", first)
    authority.issue("more.example.com").write(tmp_path / "tls", "more")
    assert gateway.pid is not None
    os.kill(gateway.pid, signal.SIGHUP)
    wait_for(lambda: gateway.state()["last_reload"]["ok"] is True, "the reload")
    assert gateway.state()["revision"] != revision
    assert shown(port, "more.example.com")[0]


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_acme_with_real_workers(gateway: Gateway, tmp_path: Path, challenge: str) -> None:
    secure = free_port()
    plain = int(gateway.address.rpartition(":")[2])
    with pebble.running(tmp_path / "pebble", http_port=plain, tls_port=secure) as server:
        gateway.write(
            f'[entrypoints.secure]\naddress = "127.0.0.1:{secure}"\ntls = {{}}\n'
            '[certificates.shop]\nacme = "test"\nhosts = ["shop.example.com", "www.example.com"]\n'
            f'[acme.test]\ndirectory = "{server.directory}"\nca = "{server.ca}"\nagree_to_terms = true\n'
            f'email = "ops@example.com"\nchallenge = "{challenge}"\ndir = "{tmp_path / "acme"}"\n'
        )
        gateway.start()
        wait_for(lambda: "certificate shop: obtained" in gateway.log, "the certificate", 60)
        for name in ("shop.example.com", "www.example.com"):
            certificate = x509.load_der_x509_certificate(shown(secure, name)[0])
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert sorted(names.get_values_for_type(x509.DNSName)) == ["shop.example.com", "www.example.com"]
        assert gateway.state()["workers"] and "PRIVATE KEY" not in gateway.log
        fingerprint = hashlib.sha256(shown(secure, "shop.example.com")[0]).hexdigest()
        command = [sys.executable, "-m", "pygate.cli.main", "cert"]
        config = ["-c", str(gateway.config)]
        listed = subprocess.run([*command, "list", "--json", *config], capture_output=True, text=True, timeout=60)
        assert fingerprint in listed.stdout and "PRIVATE" not in listed.stdout

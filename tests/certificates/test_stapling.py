"""OCSP responses are fetched from a real responder, kept fresh, and dropped in time."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import ocsp as x509_ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from pygate.control.certificates import keeper, stapling
from pygate.control.certificates.settings import staple_file
from tests.certificates.fake import Control, keeping, until
from tests.certificates.issuing import Authority, Leaf

CONFIG: dict[str, Any] = {"certificates": {"shop": {"cert": "shop.crt", "key": "shop.key", "ocsp": "fetch"}}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "LOOK_EVERY", 500)
    monkeypatch.setattr(keeper, "WORK_EVERY", 0.3)
    monkeypatch.setattr(stapling, "FIRST", 0.3)
    monkeypatch.setattr(stapling, "MOST", 0.5)


@dataclass
class Responder:
    """Answers for the certificates it knows, as `options` say; `broken` answers instead."""

    authority: Authority
    url: str = ""
    leaves: dict[int, Leaf] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    broken: bytes | None = None
    status: int = 200
    asked: int = 0

    def issue(self, *names: str) -> Leaf:
        leaf = self.authority.issue(*names, responder=self.url)
        self.leaves[leaf.certificate.serial_number] = leaf
        return leaf

    def answer(self, body: bytes) -> bytes:
        self.asked += 1
        question = x509_ocsp.load_der_ocsp_request(body)
        if self.broken is not None:
            return self.broken
        return self.authority.respond(self.leaves[question.serial_number], **self.options)


@contextlib.contextmanager
def responding() -> Iterator[Responder]:
    responder = Responder(Authority())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["content-type"] == "application/ocsp-request"
            answer = responder.answer(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(responder.status)
            self.send_header("content-type", "application/ocsp-response")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            return

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    responder.url = f"http://127.0.0.1:{listener.server_port}/ocsp"
    try:
        yield responder
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(10)


def stapled(control: Control) -> bytes:
    return base64.b64decode(control.material["certificates"][0]["ocsp"])


def test_a_response_is_fetched_refreshed_at_half_its_life_and_dropped_at_its_end(tmp_path: Path) -> None:
    async def scenario(responder: Responder) -> None:
        control = Control(CONFIG, tmp_path, tmp_path / "run")
        responder.issue("shop.example.com").write(tmp_path, "shop")
        responder.options = {"since": timedelta(seconds=-1), "until": timedelta(seconds=5)}
        async with keeping(control, work=True) as kept:
            first = await until(lambda: control.supervisor.paths and stapled(control), "a staple")
            assert responder.asked == 1
            # A new one at half of six seconds, with up to a sixteenth of that more.
            second = await until(lambda: stapled(control) not in (first, b"") and stapled(control), "another", 5)
            assert second != first and responder.asked == 2
            responder.broken = b"nonsense"
            await until(lambda: stapled(control) == b"", "it to be dropped", 10)
            assert kept.stapler.counts["failed"] >= 1 and control.names() == ["shop.example.com"]
            responder.broken = None
            await until(lambda: stapled(control), "a staple again", 5)

    with responding() as responder:
        asyncio.run(scenario(responder))


def test_a_delegated_responder_and_another_certificate(tmp_path: Path) -> None:
    async def scenario(responder: Responder) -> None:
        control = Control(CONFIG, tmp_path, tmp_path / "run")
        delegate = responder.authority.issue("responder", usage=ExtendedKeyUsageOID.OCSP_SIGNING)
        responder.options = {"by": delegate}
        first = responder.issue("shop.example.com")
        first.write(tmp_path, "shop")
        async with keeping(control, work=True) as kept:
            await until(lambda: control.supervisor.paths and stapled(control), "a staple")
            fingerprint = kept.gathered.entries[0].facts.fingerprint
            assert staple_file(control.run_dir, fingerprint).stat().st_mode & 0o777 == 0o600
            # The new certificate never goes with the old one's response, and that is cleared away.
            responder.issue("two.example.com").write(tmp_path, "shop")
            await until(lambda: control.names() == ["two.example.com"] and stapled(control), "its own staple")
            assert responder.asked == 2
            await until(lambda: not staple_file(control.run_dir, fingerprint).exists(), "the old response to be gone")

    with responding() as responder:
        asyncio.run(scenario(responder))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"broken": b"\x30\x03\x0a\x01\x03"}, "the responder answers try later"),
        ({"broken": b"x" * 70000}, "larger than 64 KiB"),
        ({"status": 500}, "status 500"),
        ({"options": {"status": x509_ocsp.OCSPCertStatus.REVOKED}}, "says that the certificate is revoked"),
        ({"options": {"status": x509_ocsp.OCSPCertStatus.UNKNOWN}}, "says that the certificate is unknown"),
        ({"options": {"until": timedelta(seconds=-10)}}, "it held until"),
        ({"authority": Authority()}, "signed by nobody the issuer has allowed"),
    ],
)
def test_what_is_not_stapled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any], why: str
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario(responder: Responder) -> None:
        control = Control(CONFIG, tmp_path, tmp_path / "run")
        responder.issue("shop.example.com").write(tmp_path, "shop")
        for name, value in change.items():
            setattr(responder, name, value)
        async with keeping(control, work=True) as kept:
            # It is asked again, after a while.
            await until(lambda: kept.stapler.counts["failed"] >= 2, "two failures")
            assert stapled(control) == b"" and kept.stapler.counts["ok"] == 0

    with responding() as responder:
        asyncio.run(scenario(responder))
    assert why in caplog.text

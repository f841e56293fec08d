"""ACME against Pebble: certificates are obtained, renewed, kept, and failures do no harm.

What a worker does with the staged material – answering for challenges – is done here by two small servers that read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.server
import logging
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from pygate.control.certificates import authority, bounded, challenges, keeper, pem, renewal, schedule, storage
from pygate.control.certificates.storage import Attempts
from tests.certificates import pebble
from tests.certificates.fake import Control, keeping, until
from tests.certificates.issuing import Authority, key_pem
from tests.certificates.pebble import BLOCKED, EAB, Pebble


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with pebble.running(tmp_path_factory.mktemp("pebble")) as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "LOOK_EVERY", 500)
    monkeypatch.setattr(keeper, "WORK_EVERY", 0.5)
    monkeypatch.setattr(renewal, "POLL_FIRST", 0.1)


def configured(server: Pebble, directory: Path, **certificates: list[str]) -> dict[str, Any]:
    return {
        "acme": {"le": server.account(directory / "acme")},
        "certificates": {name: {"acme": "le", "hosts": hosts} for name, hosts in certificates.items()},
    }


@contextlib.contextmanager
def answering_http(port: int, control: Control) -> Iterator[list[str]]:
    """Serves the tokens of what the workers have; yields the hosts that were asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            prefix, _, token = self.path.rpartition("/")
            found = control.material["challenges"].get(token) if prefix == "/.well-known/acme-challenge" else None
            asked.append(self.headers.get("host", "").partition(":")[0])
            body = (found or "none").encode()
            self.send_response(200 if found else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield asked
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(10)


@contextlib.contextmanager
def answering_alpn(port: int, control: Control, directory: Path) -> Iterator[list[str]]:
    """Shows the special certificates of what the workers have to those that speak `acme-tls/1`."""
    asked: list[str] = []

    def choose(sock: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        asked.append(name or "")
        for number, item in enumerate(control.material["alpn_challenges"]):
            if item["name"] == name:
                file = directory / f"alpn-{number}.pem"
                file.write_text(item["key"] + item["cert"])
                special = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                special.load_cert_chain(file)
                special.set_alpn_protocols(["acme-tls/1"])
                sock.context = special

    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = Authority().issue("nobody")
    (directory / "nobody.pem").write_bytes(key_pem(leaf.key) + leaf.chain)
    plain.load_cert_chain(directory / "nobody.pem")
    plain.sni_callback = choose
    plain.set_alpn_protocols(["acme-tls/1"])

    async def serve(ready: threading.Event, stop: asyncio.Event) -> None:
        async def done(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(done, "127.0.0.1", port, ssl=plain):
            ready.set()
            await stop.wait()

    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(ready, stop)))
    thread.start()
    assert ready.wait(10)
    try:
        yield asked
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def test_http_01_from_nothing_to_a_certificate_in_force(
    server: Pebble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pygate")
    config = configured(server, tmp_path, shop=["a.example.com", "b.example.com"], other=["c.example.com"])

    async def scenario() -> None:
        control = Control(config, tmp_path, tmp_path / "run")
        control.supervisor.slow = 0.3
        with answering_http(server.http_port, control) as asked:
            async with keeping(control, work=True) as kept:
                await until(lambda: control.supervisor.paths, "the first material")
                # The gateway has started without; the names are refused.
                assert control.names() == [] and kept.gathered.waiting == ["other", "shop"]
                await until(lambda: kept.renewer.counts["ok"] == 2, "both certificates", 60)
                assert sorted(control.names()) == ["a.example.com", "b.example.com", "c.example.com"]
                assert sorted(set(asked)) == ["a.example.com", "b.example.com", "c.example.com"]
                # The proofs were in the workers, and are gone.
                shown = [p for p in control.supervisor.paths if p.exists()]
                assert control.material["challenges"] == {} and shown
                assert kept.renewer.counts["failed"] == 0
                # Nothing is due: nothing is asked.
                size = server.log.stat().st_size
                await asyncio.sleep(1.5)
                assert server.log.stat().st_size == size

    asyncio.run(scenario())
    assert "is not there yet: its names are refused" in caplog.text
    assert "PRIVATE KEY" not in caplog.text
    modes = {p.relative_to(tmp_path): p.stat().st_mode & 0o777 for p in (tmp_path / "acme").rglob("*")}
    assert all(mode == (0o700 if (tmp_path / p).is_dir() else 0o600) for p, mode in modes.items()), modes
    assert sorted(p.name for p in modes if p.suffix == ".pem") == ["other.pem", "shop.pem"]
    assert "PRIVATE KEY" not in "".join(p.read_text() for p in (tmp_path / "acme").rglob("*.json"))


def test_a_broken_file_does_not_hold_up_acme(server: Pebble, tmp_path: Path) -> None:
    config = configured(server, tmp_path)
    config["certificates"] = {"file": {"cert": "file.crt", "key": "file.key"}}

    async def scenario() -> None:
        control = Control(config, tmp_path, tmp_path / "run")
        Authority().issue("file.example.com").write(tmp_path, "file")
        with answering_http(server.http_port, control):
            async with keeping(control, work=True) as kept:
                await until(lambda: control.supervisor.paths, "the first material")
                (tmp_path / "file.key").write_text("broken")
                await until(lambda: kept.counts["failed"] == 1, "it to be noticed")
                more = {"shop": {"acme": "le", "hosts": ["a.example.com"]}}
                control.change({**config, "certificates": config["certificates"] | more})
                await until(lambda: kept.renewer.counts["ok"] == 1, "the certificate", 60)
                assert control.names() == ["file.example.com", "a.example.com"]

    asyncio.run(scenario())


def test_tls_alpn_01(server: Pebble, tmp_path: Path) -> None:
    config = configured(server, tmp_path, shop=["a.example.com", "b.example.com"])
    config["acme"]["le"]["challenge"] = "tls-alpn-01"

    async def scenario() -> None:
        control = Control(config, tmp_path, tmp_path / "run")
        with answering_alpn(server.tls_port, control, tmp_path) as asked:
            async with keeping(control, work=True) as kept:
                await until(lambda: kept.renewer.counts["ok"] == 1, "the certificate", 60)
                assert control.names() == ["a.example.com", "b.example.com"]
                assert sorted(set(asked)) == ["a.example.com", "b.example.com"]
                assert control.material["alpn_challenges"] == []

    asyncio.run(scenario())


def test_the_special_certificate_is_as_rfc_8737_wants_it() -> None:
    made = challenges.certificate(challenges.Proof("tls-alpn-01", "a.example.com", "t", "token.thumbprint"))
    (certificate,) = pem.chain(made["cert"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example.com"] and len(list(names)) == 1
    extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert extension.critical and isinstance(extension.value, x509.UnrecognizedExtension)
    assert extension.value.value == b"\x04\x20" + hashlib.sha256(b"token.thumbprint").digest()
    pem.key_for(made["key"].encode(), certificate)


def test_a_failure_is_told_counted_kept_and_harmless(
    server: Pebble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The proof cannot be seen (nobody listens), and one name is forbidden; the third certificate is obtained."""
    config = configured(server, tmp_path, bad=[BLOCKED], good=["good.example.com"])

    async def scenario() -> None:
        control = Control(config, tmp_path, tmp_path / "run")
        async with keeping(control, work=True) as kept:
            await until(lambda: kept.renewer.counts["failed"] >= 2, "two failures", 60)
            await until(lambda: control.material["challenges"] == {}, "the proofs to be gone")
        attempts = storage.of(config, "le").attempts("good")
        assert attempts.failures == 1 and "good.example.com is refused: connection" in attempts.error
        assert 30 < attempts.not_before - time.time() < 80
        assert "rejectedIdentifier" in storage.of(config, "le").attempts("bad").error
        # A gateway that starts again waits …
        with answering_http(server.http_port, control):
            async with keeping(control, work=True) as kept:
                await asyncio.sleep(1.5)
                assert kept.renewer.counts == {"ok": 0, "failed": 0}
                # … unless somebody asks for it.
                storage.of(config, "le").want("good")
                await until(lambda: kept.renewer.counts["ok"] == 1, "the certificate", 60)
                assert control.names() == ["good.example.com"]
                # A change of the names is another matter, too.
                config["certificates"]["bad"]["hosts"] = ["fine.example.com"]
                control.change(config)
                await until(lambda: kept.renewer.counts["ok"] == 2, "the other", 60)
        names = ["good.example.com"]
        assert storage.of(config, "le").attempts("good") == Attempts(names, obtained=names)

    asyncio.run(scenario())
    assert "certificate good: acme.le gave none: good.example.com is refused" in caplog.text


def test_external_account_binding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pebble.running(tmp_path / "pebble", binding=True) as server:
        config = configured(server, tmp_path, shop=["a.example.com"])

        async def scenario(control: Control, ok: int, failed: int) -> None:
            with answering_http(server.http_port, control):
                async with keeping(control, work=True) as kept:
                    await until(lambda: kept.renewer.counts == {"ok": ok, "failed": failed}, "the end", 60)

        asyncio.run(scenario(Control(config, tmp_path, tmp_path / "run"), 0, 1))
        assert "external" in storage.of(config, "le").attempts("shop").error.lower()
        storage.of(config, "le").want("shop")
        monkeypatch.setenv("EAB", EAB["kid-1"])
        config["acme"]["le"] |= {"eab_key_id": "kid-1", "eab_hmac_key": "env:EAB"}
        asyncio.run(scenario(Control(config, tmp_path, tmp_path / "run"), 1, 0))


def test_renewal_and_a_server_that_has_forgotten_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Certificates for 12 seconds: the second follows by itself. Pebble forgets everything when it ends."""
    caplog.set_level(logging.INFO)
    with pebble.running(tmp_path / "one", validity=12) as server:
        config = configured(server, tmp_path, shop=["a.example.com"])
        kept_on_disk = storage.of(config, "le")

        async def scenario(control: Control, wanted: int) -> None:
            with answering_http(server.http_port, control):
                async with keeping(control, work=True) as kept:
                    await until(lambda: kept.renewer.counts["ok"] == wanted, "the certificates", 90)

        control = Control(config, tmp_path, tmp_path / "run")
        asyncio.run(scenario(control, 2))
        assert "(it expires in 0.0 days)" in caplog.text
        account = kept_on_disk.account.read_bytes()
    monkeypatch.setattr(schedule, "FIRST", 0.1)
    with pebble.running(tmp_path / "two", port=server.port) as server:
        config["acme"]["le"]["ca"] = str(server.ca)
        kept_on_disk.want("shop")
        asyncio.run(scenario(Control(config, tmp_path, tmp_path / "run"), 1))
    assert "accountDoesNotExist" in caplog.text and kept_on_disk.account.read_bytes() != account


def test_a_second_gateway_keeps_out_of_the_way(server: Pebble, tmp_path: Path) -> None:
    config = configured(server, tmp_path, shop=["a.example.com"])

    async def scenario() -> None:
        control = Control(config, tmp_path, tmp_path / "run")
        with storage.of(config, "le").locked() as ours, answering_http(server.http_port, control):
            assert ours
            with storage.of(config, "le").locked() as second:
                assert not second
            async with keeping(control, work=True) as kept:
                await asyncio.sleep(1.5)
                assert kept.renewer.counts == {"ok": 0, "failed": 0} and not storage.of(config, "le").account.exists()

    asyncio.run(scenario())


def test_workers_that_do_not_take_the_challenge_fail_the_order_not_the_gateway(server: Pebble, tmp_path: Path) -> None:
    config = configured(server, tmp_path, shop=["refused.example.com"])

    async def scenario() -> None:
        control = Control(config, tmp_path, tmp_path / "run")
        control.supervisor.refuse, control.supervisor.refuse_after = "worker 0: no", 1
        async with keeping(control, work=True) as kept:
            await until(lambda: kept.renewer.counts["failed"] == 1, "the failure", 60)
        assert "could not be shown" in storage.of(config, "le").attempts("shop").error

    asyncio.run(scenario())


def test_an_authority_that_is_not_trusted_or_not_there(server: Pebble, tmp_path: Path) -> None:
    for account, why in [
        (server.account(tmp_path / "a", ca=""), "not trusted"),
        (server.account(tmp_path / "b", directory=f"https://localhost:{pebble.free_port()}/dir"), "no connection"),
        (server.account(tmp_path / "c", directory=f"https://localhost:{server.port}/nothing"), "status 404"),
    ]:
        config = {"acme": {"le": account}, "certificates": {"shop": {"acme": "le", "hosts": ["a.example.com"]}}}
        found = renewal.settings_of(config, "le", tmp_path)
        with pytest.raises(authority.AuthorityError) as error:
            authority.Authority(found, storage.of(config, "le"), "test").open()
        assert why in str(error.value)


def test_answers_are_bounded_in_size_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if self.path == "/moved" else 200)
            self.send_header("location", "/large")
            self.end_headers()
            with contextlib.suppress(OSError):
                while self.path == "/large":
                    self.wfile.write(b"x" * 65536)
                for _ in range(100 if self.path == "/slow" else 0):
                    self.wfile.write(b"x" * 4096)
                    time.sleep(0.1)

        def log_message(self, format: str, *args: Any) -> None:
            return

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{listener.server_port}"
    try:
        with bounded.session() as client:
            with pytest.raises(OSError, match="larger than 64 KiB"):
                bounded.call(client, "GET", f"{url}/large", 64 << 10)
            with pytest.raises(OSError, match="not complete within 1 s"):
                bounded.call(client, "GET", f"{url}/slow", 1 << 20, seconds=1)
            assert bounded.call(client, "GET", f"{url}/moved", 1 << 20).status_code == 302
        begun = time.monotonic()

        async def late() -> None:
            await bounded.in_thread(time.sleep, 5, seconds=0.2)

        with pytest.raises(TimeoutError):
            asyncio.run(late())
        assert time.monotonic() - begun < 3
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(10)


def test_when_a_certificate_is_due() -> None:
    day = 86400.0
    for life, before, earliest, latest in [
        # 90 days: 30 before the end is two thirds, too; spread over a quarter of what is left.
        (90, 30, 60, 67.5),
        # A short life: two thirds of it come later than 30 days before its end.
        (6, 30, 4, 4.5),
        # A long one: 30 days before the end.
        (365, 30, 335, 342.5),
    ]:
        for fingerprint, expected in (("000000000000", earliest), ("ffffffffffff", latest)):
            found = schedule.due(1000, 1000 + life * day, before * day, fingerprint)
            assert (found - 1000) / day == pytest.approx(expected, abs=0.001)
    assert schedule.advised(50 * day, 0, 90 * day) == 50 * day
    # Advice never leads past the last tenth.
    assert schedule.advised(500 * day, 0, 90 * day) == 81 * day


def test_how_long_is_waited_after_failures() -> None:
    def middle(low: float, high: float) -> float:
        return (low + high) / 2

    waits = [schedule.delay(n, False, middle) for n in range(1, 13)]
    assert waits[:4] == [60, 120, 240, 480] and waits[-1] == schedule.MOST and waits == sorted(waits)
    assert schedule.delay(1, True, middle) == schedule.LIMITED
    assert schedule.delay(4, False, lambda low, high: low) == 360
    assert schedule.delay(10**6, False, lambda low, high: high) == schedule.MOST * 1.25

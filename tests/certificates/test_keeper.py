"""Certificates in force: what changes on disk reaches the workers when it is good, and only then."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from pygate.control.certificates import duty, keeper
from tests.certificates.fake import Control, keeping, until
from tests.certificates.issuing import Authority, cert_pem, key_pem, new_key

CONFIG: dict[str, Any] = {"certificates": {"shop": {"cert": "shop.crt", "key": "shop.key"}}}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "SETTLE", 0.2)
    monkeypatch.setattr(keeper, "LOOK_EVERY", 500)


def test_a_renewed_file_is_handed_over(tmp_path: Path, authority: Authority) -> None:
    async def scenario() -> None:
        control = Control(CONFIG, tmp_path, tmp_path / "run")
        authority.issue("one.example.com").write(tmp_path, "shop")
        async with keeping(control) as kept:
            await until(lambda: control.supervisor.paths, "the first material")
            assert control.names() == ["one.example.com"]
            authority.issue("two.example.com").write(tmp_path, "shop")
            await until(lambda: control.names() == ["two.example.com"], "the new certificate")
            # What workers have already is not sent again.
            count = len(control.supervisor.paths)
            os.utime(tmp_path / "shop.crt")
            assert await kept.refresh("for no reason")
            assert len(control.supervisor.paths) == count
            assert kept.counts["failed"] == 0

    asyncio.run(scenario())


def test_a_link_swapped_above_the_files_is_seen(tmp_path: Path, authority: Authority) -> None:
    """As Kubernetes mounts a secret: tls.crt → ..data/tls.crt, ..data → a directory per version."""
    mount = tmp_path / "mount"
    for version in ("one", "two"):
        authority.issue(f"{version}.example.com").write(mount / f"..{version}", "tls")
    (mount / "..data").symlink_to("..one")
    for name in ("tls.crt", "tls.key"):
        (mount / name).symlink_to(f"..data/{name}")
    config = {"certificates": {"files": {"cert": "mount/tls.crt", "key": "mount/tls.key"}, "all": {"dir": "mount"}}}

    async def scenario() -> None:
        control = Control(config, tmp_path, tmp_path / "run")
        async with keeping(control):
            await until(lambda: control.supervisor.paths, "the first material")
            assert control.names() == ["one.example.com"] * 2
            (mount / "..data_tmp").symlink_to("..two")
            (mount / "..data_tmp").rename(mount / "..data")
            await until(lambda: control.names() == ["two.example.com"] * 2, "the other version")

    asyncio.run(scenario())


def test_a_directory_that_gains_and_loses_a_pair(tmp_path: Path, authority: Authority) -> None:
    async def scenario() -> None:
        control = Control({"certificates": {"all": {"dir": "all"}}}, tmp_path, tmp_path / "run")
        authority.issue("a.example.com").write(tmp_path / "all", "a")
        async with keeping(control):
            await until(lambda: control.supervisor.paths, "the first material")
            authority.issue("b.example.com").write(tmp_path / "all", "b")
            await until(lambda: control.names() == ["a.example.com", "b.example.com"], "the second")
            (tmp_path / "all/a.crt").unlink()
            await until(lambda: control.names() == ["b.example.com"], "the first gone")

    asyncio.run(scenario())


def test_what_is_broken_stays_as_it_was_and_the_rest_goes_on(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = {
        "certificates": {**CONFIG["certificates"], "other": {"cert": "other.crt", "key": "other.key"}},
        "services": {"s": {"endpoints": ["https://h:1"], "tls": {"ca": "ca.pem"}}},
    }

    async def scenario() -> None:
        control = Control(config, tmp_path, tmp_path / "run")
        for name in ("shop", "other"):
            authority.issue(f"{name}.example.com").write(tmp_path, name)
        (tmp_path / "ca.pem").write_bytes(cert_pem(authority.certificate))
        async with keeping(control) as kept:
            await until(lambda: control.supervisor.paths, "the first material")
            secret = key_pem(new_key()).decode()
            (tmp_path / "shop.key").write_text(secret)
            await until(lambda: kept.counts["failed"] == 1, "the broken pair to be noticed")
            assert control.names() == ["other.example.com", "shop.example.com"]
            assert "`shop.key` does not belong to the certificate" in caplog.text and "stays" in caplog.text
            assert secret.splitlines()[1] not in caplog.text
            # Another certificate is renewed all the same.
            authority.issue("renewed.example.com").write(tmp_path, "other")
            await until(lambda: control.names() == ["renewed.example.com", "shop.example.com"], "the renewal")
            (tmp_path / "ca.pem").write_text("")
            await until(lambda: "`ca.pem` holds no certificate" in caplog.text, "the broken roots to be noticed")
            assert control.material["roots"] == {"ca.pem": cert_pem(authority.certificate).decode()}
            # It is told once, however often it is looked.
            await kept.refresh("again")
            assert caplog.text.count("`shop.key` does not belong") == 1
            # What is repaired is in force at once.
            authority.issue("repaired.example.com").write(tmp_path, "shop")
            await until(lambda: "repaired.example.com" in control.names(), "the repaired pair")

    asyncio.run(scenario())


def test_a_pair_written_in_two_steps_is_not_called_broken(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "SETTLE", 2.0)

    async def scenario() -> None:
        control = Control(CONFIG, tmp_path, tmp_path / "run")
        authority.issue("one.example.com").write(tmp_path, "shop")
        async with keeping(control) as kept:
            await until(lambda: control.supervisor.paths, "the first material")
            fresh = authority.issue("two.example.com")
            (tmp_path / "shop.crt").write_bytes(fresh.chain)
            await asyncio.sleep(1.0)
            (tmp_path / "shop.key").write_bytes(key_pem(fresh.key))
            await until(lambda: control.names() == ["two.example.com"], "the new certificate")
            assert kept.counts["failed"] == 0

    asyncio.run(scenario())
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


def test_an_expired_certificate_does_not_replace_a_valid_one(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        control = Control(CONFIG, tmp_path, tmp_path / "run")
        authority.issue("valid.example.com").write(tmp_path, "shop")
        async with keeping(control) as kept:
            await until(lambda: control.supervisor.paths, "the first material")
            authority.issue("old.example.com", days=-1, begun=5).write(tmp_path, "shop")
            await until(lambda: kept.counts["failed"] == 1, "it to be noticed")
            assert control.names() == ["valid.example.com"]
            assert "replaced by a certificate that has expired; the old one stays" in caplog.text

    asyncio.run(scenario())


def test_workers_that_refuse_keep_what_they_have(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        control = Control(CONFIG, tmp_path, tmp_path / "run")
        authority.issue("one.example.com").write(tmp_path, "shop")
        async with keeping(control) as kept:
            await until(lambda: control.supervisor.paths, "the first material")
            control.supervisor.refuse = "worker 1: no"
            authority.issue("two.example.com").write(tmp_path, "shop")
            await until(lambda: kept.counts["failed"] == 1, "the refusal")
            assert "the old stay: worker 1: no" in caplog.text
            control.supervisor.refuse = ""
            assert await kept.refresh("once more")
            assert control.names() == ["two.example.com"]

    asyncio.run(scenario())


def test_another_configuration_is_followed(tmp_path: Path, authority: Authority) -> None:
    async def scenario() -> None:
        control = Control(CONFIG, tmp_path, tmp_path / "run")
        authority.issue("shop.example.com").write(tmp_path, "shop")
        authority.issue("b.example.com").write(tmp_path, "b")
        async with keeping(control):
            await until(lambda: control.supervisor.paths, "the first material")
            control.change({"certificates": {"b": {"cert": "b.crt", "key": "b.key"}}})
            await until(lambda: control.names() == ["b.example.com"], "the other certificate")
            # And its files are watched.
            authority.issue("c.example.com").write(tmp_path, "b")
            await until(lambda: control.names() == ["c.example.com"], "its renewal")

    asyncio.run(scenario())


def test_certificates_of_one_configuration_are_never_put_under_another(tmp_path: Path, authority: Authority) -> None:
    """While a reload is under way, workers have a configuration that this process does not count as in force yet."""

    async def scenario() -> None:
        control = Control(CONFIG, tmp_path, tmp_path / "run")
        authority.issue("shop.example.com").write(tmp_path, "shop")
        authority.issue("b.example.com").write(tmp_path, "b")
        async with keeping(control) as kept:
            await until(lambda: control.supervisor.paths, "the first material")
            control.supervisor.superseded.add("r1")
            authority.issue("two.example.com").write(tmp_path, "shop")
            asking = asyncio.create_task(kept.refresh("meanwhile"))
            await asyncio.sleep(0.5)
            assert not asking.done() and len(control.supervisor.paths) == 1
            control.change({"certificates": {"b": {"cert": "b.crt", "key": "b.key"}}})
            assert await asking
            assert control.names() == ["b.example.com"] and kept.counts["failed"] == 0

    asyncio.run(scenario())


def test_the_duty_sleeps_until_tls_is_configured_and_makes_ticket_keys(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duty, "_rotated", None)
    monkeypatch.setattr(duty, "ROTATE_EVERY", 0.5)
    authority.issue("shop.example.com").write(tmp_path, "shop")

    async def scenario() -> None:
        control: Any = Control({"services": {"s": {"endpoints": ["http://h:1"]}}}, tmp_path, tmp_path / "run")
        running = asyncio.create_task(duty.run(control))
        await asyncio.sleep(0.3)
        assert control.shared.keys == [] and control.supervisor.paths == []
        control.change(CONFIG)
        await until(lambda: control.supervisor.paths, "the first material")
        await until(lambda: len(control.shared.keys) >= 3, "three keys")
        assert {len(key) for key in control.shared.keys} == {48}
        assert len(set(control.shared.keys)) == len(control.shared.keys)
        families = {
            f.name: {tuple(p.attributes.values()): p.value for p in f.points} for f in control.certificates.families()
        }
        assert families["pygate.certificate.expiry"][("shop",)] == pytest.approx(90 * 86400, abs=120)
        assert families["pygate.certificate.updates"] == {("ok",): 1, ("failed",): 0}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert control.certificates is None
        # Started again in the same process, it does not make a key at once.
        monkeypatch.setattr(duty, "ROTATE_EVERY", 3600.0)
        count = len(control.shared.keys)
        running = asyncio.create_task(duty.run(control))
        await asyncio.sleep(0.3)
        assert len(control.shared.keys) == count
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())

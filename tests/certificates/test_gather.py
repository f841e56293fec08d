"""Certificates of a configuration: what is read, what is refused and where it says so."""

from __future__ import annotations

import base64
import logging
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp as x509_ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from pygate.control.certificates import ocsp, pem, settings
from pygate.control.certificates.gather import Gathered, gather, system_roots
from pygate.control.certificates.settings import staple_file
from pygate.control.certificates.staging import KEEP, stage
from tests.certificates.issuing import Authority, cert_pem, key_pem, new_key

PAIR = {"certificates": {"shop": {"cert": "tls/shop.crt", "key": "tls/shop.key"}}}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def material(found: Gathered) -> Any:
    return orjson.loads(found.material())


def texts(found: Gathered) -> list[tuple[str, str]]:
    return [(p.path, p.message) for p in found.problems]


def test_a_pair_is_shipped_leaf_first_with_its_key(tmp_path: Path, authority: Authority) -> None:
    leaf = authority.issue("shop.example.com", "10.1.2.3")
    leaf.write(tmp_path / "tls", "shop")
    found = gather(PAIR, tmp_path)
    assert found.problems == [] and found.warnings == []
    (shipped,) = material(found)["certificates"]
    assert shipped == {
        "name": "shop",
        "source": str(tmp_path / "tls/shop.crt"),
        "cert": leaf.chain.decode(),
        "key": key_pem(leaf.key).decode(),
        "ocsp": "",
    }
    facts = found.entries[0].facts
    assert facts.sans == ("shop.example.com", "10.1.2.3") and facts.key == "ecdsa-p256"
    assert facts.issuer == "Test Root" and facts.subject == "CN=shop.example.com"


def test_one_file_may_hold_both_and_the_key_stays_out_of_the_chain(tmp_path: Path, authority: Authority) -> None:
    leaf = authority.issue("a.example.com")
    both = b"Bag Attributes\n" + key_pem(leaf.key) + b"text\n" + leaf.chain
    (tmp_path / "both.pem").write_bytes(both)
    (tmp_path / "both.pem").chmod(0o600)
    found = gather({"certificates": {"a": {"cert": "both.pem", "key": "both.pem"}}}, tmp_path)
    assert found.problems == [] and found.warnings == []
    assert "PRIVATE KEY" not in found.entries[0].cert and found.entries[0].cert == leaf.chain.decode()
    assert found.entries[0].key == key_pem(leaf.key).decode()


def test_old_forms_of_keys_are_taken(tmp_path: Path, authority: Authority) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    for name, key, form in (
        ("sec1", new_key(), serialization.PrivateFormat.TraditionalOpenSSL),
        ("pkcs1", rsa_key, serialization.PrivateFormat.TraditionalOpenSSL),
    ):
        authority.issue(f"{name}.example.com", key=key).write(tmp_path, name)
        text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        # What `openssl ecparam -genkey` puts in front is stepped over.
        (tmp_path / f"{name}.key").write_bytes(
            b"-----BEGIN EC PARAMETERS-----\nBgg=\n-----END EC PARAMETERS-----\n" + text
        )
        found = gather({"certificates": {name: {"cert": f"{name}.crt", "key": f"{name}.key"}}}, tmp_path)
        assert found.problems == []
        assert found.entries[0].key == text.decode()


@pytest.mark.parametrize(
    ("break_it", "path", "message"),
    [
        (lambda d, a: (d / "shop.crt").unlink(), "cert", "`tls/shop.crt` does not exist"),
        (lambda d, a: (d / "shop.key").unlink(), "key", "`tls/shop.key` does not exist"),
        (lambda d, a: (d / "shop.crt").write_text("hello"), "cert", "holds no PEM block"),
        (lambda d, a: (d / "shop.crt").write_bytes(b"\x30\x82\x01\x00"), "cert", "looks like DER"),
        (lambda d, a: (d / "shop.crt").write_bytes(key_pem(new_key())), "cert", "holds no certificate"),
        (lambda d, a: _garble(d / "shop.crt"), "cert", "holds a certificate that cannot be read"),
        (lambda d, a: _garble(d / "shop.key"), "key", "holds a private key that cannot be read"),
        (lambda d, a: (d / "shop.key").write_bytes(key_pem(new_key())), "key", "does not belong to the certificate"),
        (lambda d, a: (d / "shop.key").write_bytes(b""), "key", "holds no private key"),
        (lambda d, a: _encrypt(d / "shop.key"), "key", "encrypted with a passphrase"),
        (lambda d, a: (d / "shop.crt").write_bytes(b"x" * (1 << 20) + b"x"), "cert", "is larger than 1024 KiB"),
        (lambda d, a: _fifo(d / "shop.crt"), "cert", "is not a regular file"),
        (lambda d, a: _directory(d / "shop.key"), "key", "is not a regular file"),
        (
            lambda d, a: a.issue("x", key=rsa.generate_private_key(65537, 1024)).write(d, "shop"),
            "cert",
            "has an RSA key of 1024 bits",
        ),
        (
            lambda d, a: a.issue("x", key=ec.generate_private_key(ec.SECP521R1())).write(d, "shop"),
            "cert",
            "has a key of an unknown kind",
        ),
        (
            lambda d, a: (d / "shop.crt").write_bytes(cert_pem(*[a.certificate] * 11)),
            "cert",
            "holds 11 certificates",
        ),
    ],
)
def test_what_is_wrong_is_said_at_its_key(
    tmp_path: Path, authority: Authority, break_it: Any, path: str, message: str
) -> None:
    authority.issue("shop.example.com").write(tmp_path / "tls", "shop")
    assert gather(PAIR, tmp_path).problems == []
    break_it(tmp_path / "tls", authority)
    found = gather(PAIR, tmp_path)
    (problem,) = found.problems
    assert problem.path == f"certificates.shop.{path}" and message in problem.message
    assert found.entries == [] and found.failed == {("shop", str(tmp_path / "tls/shop.crt"))}


def _garble(path: Path) -> None:
    lines = path.read_text().splitlines()
    lines[1:3] = ["AAAA" + lines[1][4:]]
    path.write_text("\n".join(lines) + "\n")


def _encrypt(path: Path) -> None:
    key = new_key()
    secret = serialization.BestAvailableEncryption(b"x")
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_certificate_altered_anywhere_is_read_or_refused(authority: Authority) -> None:
    """Nothing that a file holds may raise anything but `Wrong`."""
    leaf = authority.issue("shop.example.com", "10.1.2.3", responder="http://r.example/")
    der = leaf.certificate.public_bytes(serialization.Encoding.DER)
    refused = 0
    for position in range(len(der)):
        for bit in (0x01, 0x80):
            altered = bytearray(der)
            altered[position] ^= bit
            body = base64.encodebytes(bytes(altered))
            try:
                (found,) = pem.chain(b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n")
                pem.facts(found)
            except pem.Wrong:
                refused += 1
            else:
                # What still counts as issued says what was issued.
                same = found.tbs_certificate_bytes == leaf.certificate.tbs_certificate_bytes
                assert same or not pem.issued_by(found, leaf.issuer)
    assert refused > len(der) / 4


def test_what_can_be_used_but_should_be_known_is_a_warning(tmp_path: Path, authority: Authority) -> None:
    authority.issue("old.example.com", days=-1, begun=10).write(tmp_path, "old")
    authority.issue("new.example.com", begun=-1).write(tmp_path, "new")
    leaf = authority.issue("mixed.example.com")
    leaf.write(tmp_path, "mixed", mode=0o644)
    (tmp_path / "mixed.crt").write_bytes(cert_pem(leaf.certificate, authority.issue("z").certificate))
    names = ("old", "new", "mixed")
    found = gather({"certificates": {n: {"cert": f"{n}.crt", "key": f"{n}.key"} for n in names}}, tmp_path)
    assert found.problems == [] and len(found.entries) == 3
    said = {(w.path, re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "DAY", w.message)) for w in found.warnings}
    assert said == {
        ("certificates.old.cert", "`old.crt` expired on DAY UTC"),
        ("certificates.new.cert", "`new.crt` is valid from DAY UTC on"),
        ("certificates.mixed.key", "the private key `mixed.key` can be read or written by other users (mode 0644)"),
        (
            "certificates.mixed.cert",
            "`mixed.crt` is no chain: a certificate is not followed by the one that has signed it",
        ),
    }


def test_a_directory_gives_every_pair_in_it(tmp_path: Path, authority: Authority) -> None:
    directory = tmp_path / "all"
    config = {"certificates": {"all": {"dir": "all"}}}
    assert texts(gather(config, tmp_path)) == [("certificates.all.dir", "`all` does not exist")]
    directory.mkdir()
    found = gather(config, tmp_path)
    assert found.problems == [] and [w.message for w in found.warnings] == ["`all` holds no certificate with its key"]
    authority.issue("a.example.com").write(directory, "a")
    authority.issue("b.example.com").write(directory, "b")
    (directory / "b.crt").rename(directory / "b.pem")
    authority.issue("hidden.example.com").write(directory, ".hidden")
    (directory / "ca.pem").write_bytes(cert_pem(authority.certificate))
    (directory / "lonely.key").write_bytes(key_pem(new_key()))
    found = gather(config, tmp_path)
    assert found.problems == [] and [e.facts.sans for e in found.entries] == [("a.example.com",), ("b.example.com",)]
    assert {e.name for e in found.entries} == {"all"}
    (directory / "a.key").write_bytes(key_pem(new_key()))
    found = gather(config, tmp_path)
    assert texts(found) == [("certificates.all.dir", "`all/a.key` does not belong to the certificate")]
    assert [e.facts.sans for e in found.entries] == [("b.example.com",)]


def test_roots_of_clients_and_endpoints(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "clients.pem").write_bytes(b"# ours\n" + cert_pem(authority.certificate))
    config: dict[str, Any] = {
        "entrypoints": {
            "web": {
                "tls": {
                    "options": {"client_ca": "clients.pem"},
                    "hosts": {"a.example.com": {"client_ca": "missing.pem"}},
                }
            }
        },
        "services": {
            "one": {"endpoints": ["https://a:1"], "tls": {"ca": "clients.pem"}},
            "two": {"endpoints": [{"url": "HTTPS://b:1", "weight": 2}]},
        },
    }
    found = gather(config, tmp_path)
    path = "entrypoints.web.tls.hosts.a.example.com.client_ca"
    assert texts(found) == [(path, "`missing.pem` does not exist")]
    roots = material(found)["roots"]
    assert sorted(roots) == ["", "clients.pem"]
    assert roots["clients.pem"] == cert_pem(authority.certificate).decode()
    bundle = system_roots()
    assert bundle is not None
    assert roots[""].count("BEGIN CERTIFICATE") == bundle.read_text().count("-----BEGIN CERTIFICATE-----") > 10
    (tmp_path / "missing.pem").write_bytes(key_pem(new_key()))
    assert texts(gather(config, tmp_path)) == [(path, "`missing.pem` holds no certificate")]
    del config["services"]["two"]
    assert sorted(material(gather(config, tmp_path))["roots"]) == ["clients.pem"]


def test_no_system_roots_is_a_problem_only_where_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    config: dict[str, Any] = {"services": {"s": {"endpoints": ["https://a:1"]}}}
    ((path, message),) = texts(gather(config, tmp_path))
    assert path == "services" and str(empty) in message and "holds no certificate" in message
    config["services"]["s"]["endpoints"] = ["http://a:1"]
    assert gather(config, tmp_path).problems == []


@pytest.mark.parametrize(
    ("provider", "wanted"),
    [
        ({"kind": "openai"}, True),
        ({"kind": "bedrock", "region": "eu-central-1"}, True),
        ({"kind": "compatible", "base_url": "HTTPS://models.example.com/v1"}, True),
        ({"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}, False),
        ({"kind": "openai", "service": "models"}, False),
        ({"kind": "ollama"}, False),
        ({"kind": "vllm", "base_url": "https://gpu.example.com"}, True),
    ],
)
def test_providers_reached_by_tls_need_the_systems_roots(
    provider: dict[str, Any], wanted: bool, tmp_path: Path
) -> None:
    config: dict[str, Any] = {
        "ai": {"providers": {"p": provider}},
        "services": {"models": {"endpoints": ["http://127.0.0.1:9"]}},
    }
    assert settings.concerned(config) is wanted
    assert list(material(gather(config, tmp_path))["roots"]) == ([""] if wanted else [])


@pytest.mark.parametrize(
    ("tables", "path", "message"),
    [
        ({"certificates": {"x": {}}}, "certificates.x", "must say where the certificate comes from"),
        ({"certificates": {"x": {"cert": "a"}}}, "certificates.x", "has `cert` but no `key`"),
        ({"certificates": {"x": {"cert": "a", "key": "b", "dir": "c"}}}, "certificates.x", "must say where"),
        ({"certificates": {"x": {"dir": ".", "ocsp": "f"}}}, "certificates.x.ocsp", "goes with one certificate"),
        ({"certificates": {"x": {"acme": "le"}}}, "certificates.x", "has `acme` but no `hosts`"),
        (
            {"certificates": {"x": {"acme": "lf", "hosts": ["a.example"]}}},
            "certificates.x.acme",
            "no ACME account `lf`",
        ),
        ({"certificates": {"x": {"acme": "le", "hosts": ["*.a.example"]}}}, "certificates.x.hosts[0]", "wildcards"),
        (
            {"certificates": {"x": {"acme": "le", "hosts": ["a.example", "A.example"]}}},
            "certificates.x.hosts[1]",
            "not a host",
        ),
        ({"certificates": {"x": {"acme": "le", "hosts": ["127.0.0.1"]}}}, "certificates.x.hosts[0]", "not a host"),
        (
            {"certificates": {"x": {"acme": "le", "hosts": ["a.example"] * 2}}},
            "certificates.x.hosts[1]",
            "listed twice",
        ),
        ({"acme": {"le": {"directory": "https://a"}}}, "acme.le", "terms of service are not agreed to"),
        (
            {"acme": {"le": {"directory": "http://a", "agree_to_terms": True}}},
            "acme.le.directory",
            "not the URL of an ACME directory",
        ),
        (
            {"acme": {"le": {"directory": "https://a", "agree_to_terms": True, "eab_key_id": "k"}}},
            "acme.le.eab_key_id",
            "has `eab_key_id` but no `eab_hmac_key`",
        ),
        (
            {
                "acme": {
                    "le": {
                        "directory": "https://a",
                        "agree_to_terms": True,
                        "eab_key_id": "k",
                        "eab_hmac_key": "env:NOT_SET_ANYWHERE",
                    }
                }
            },
            "acme.le.eab_hmac_key",
            "`NOT_SET_ANYWHERE` is not set",
        ),
        (
            {"acme": {"le": {"directory": "https://a", "agree_to_terms": True, "email": "a@b,c@d"}}},
            "acme.le.email",
            "is not a mail address",
        ),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, tables: dict[str, Any], path: str, message: str) -> None:
    account = {"le": {"directory": "https://authority.example/dir", "agree_to_terms": True}}
    found = gather({"acme": account, **tables}, tmp_path)
    (problem,) = found.problems
    assert problem.path == path and message in problem.message


def test_a_certificate_not_obtained_yet_is_no_problem(tmp_path: Path, authority: Authority) -> None:
    from pygate.control.certificates import storage

    account = {"directory": "https://a.example/dir", "agree_to_terms": True, "dir": str(tmp_path / "acme")}
    config = {
        "acme": {"le": account},
        "certificates": {"a/../b": {"acme": "le", "hosts": ["a.example.com"]}},
    }
    found = gather(config, tmp_path)
    assert found.problems == [] and found.entries == [] and found.waiting == ["a/../b"]
    kept = storage.of(config, "le")
    assert not kept.path.exists()
    leaf = authority.issue("a.example.com")
    kept.store("a/../b", key_pem(leaf.key).decode(), leaf.chain.decode(), ["a.example.com"])
    file = kept.certificate("a/../b")
    assert file.parent == kept.certificates and file.stat().st_mode & 0o777 == 0o600
    assert {p.stat().st_mode & 0o777 for p in (kept.path, kept.certificates)} == {0o700}
    found = gather(config, tmp_path)
    assert found.waiting == [] and found.warnings == [] and found.entries[0].facts.sans == ("a.example.com",)
    file.write_text("broken")
    found = gather(config, tmp_path)
    assert found.problems == [] and found.waiting == ["a/../b"]
    assert "it is obtained anew" in found.warnings[0].message


# ---- OCSP ----


def test_a_response_from_a_file_is_stapled_when_it_may_be(tmp_path: Path, authority: Authority) -> None:
    config = {"certificates": {"shop": {**PAIR["certificates"]["shop"], "ocsp": "shop.der"}}}
    leaf = authority.issue("shop.example.com")
    leaf.write(tmp_path / "tls", "shop")
    assert texts(gather(config, tmp_path)) == [("certificates.shop.ocsp", "`shop.der` does not exist")]
    (tmp_path / "shop.der").write_bytes(authority.respond(leaf))
    found = gather(config, tmp_path)
    assert found.problems == [] and found.warnings == []
    assert base64.b64decode(material(found)["certificates"][0]["ocsp"]) == (tmp_path / "shop.der").read_bytes()
    assert found.next_expiry() == pytest.approx(pem.now().timestamp() + 4 * 86400, abs=60)
    (tmp_path / "shop.der").write_bytes(authority.respond(leaf, until=timedelta(seconds=-5)))
    found = gather(config, tmp_path)
    assert found.problems == [] and "is not stapled: it held until" in found.warnings[0].message
    assert material(found)["certificates"][0]["ocsp"] == ""
    (tmp_path / "shop.der").write_bytes(authority.respond(authority.issue("shop.example.com")))
    ((path, message),) = texts(gather(config, tmp_path))
    assert path == "certificates.shop.ocsp" and "it is about another certificate" in message


def test_which_responses_are_stapled(authority: Authority) -> None:
    leaf = authority.issue("a.example.com")
    delegate = authority.issue("responder", usage=ExtendedKeyUsageOID.OCSP_SIGNING)
    server = authority.issue("responder", usage=ExtendedKeyUsageOID.SERVER_AUTH)
    stale = authority.issue("responder", usage=ExtendedKeyUsageOID.OCSP_SIGNING, days=-1, begun=5)
    stranger = Authority("Test Root")
    foreign = stranger.issue("responder", usage=ExtendedKeyUsageOID.OCSP_SIGNING)
    revoked = x509_ocsp.OCSPCertStatus.REVOKED
    for der, why in [
        (authority.respond(leaf), ""),
        (authority.respond(leaf, by=delegate), ""),
        (authority.respond(leaf, by=server), "signed by nobody the issuer has allowed"),
        (authority.respond(leaf, by=stale), "signed by nobody the issuer has allowed"),
        (authority.respond(leaf, by=foreign), "signed by nobody the issuer has allowed"),
        (_with_last_bit_changed(authority.respond(leaf)), "its signature is not right"),
        (stranger.respond(leaf), "signed by nobody the issuer has allowed"),
        (authority.respond(leaf, status=revoked), "says that the certificate is revoked"),
        (authority.respond(leaf, until=None), "does not say how long it holds"),
        (authority.respond(leaf, since=timedelta(hours=1)), "it holds from"),
        (authority.respond(leaf)[:-9], "not an OCSP response"),
        (b"", "not an OCSP response"),
        (b"\x30\x03\x0a\x01\x06", "the responder answers unauthorized"),
    ]:
        try:
            staple = ocsp.verify(der, leaf.certificate, leaf.issuer, pem.now())
        except ocsp.Unusable as e:
            assert why and why in str(e)
        else:
            assert why == "" and staple.der == der and staple.since < staple.until


def _with_last_bit_changed(der: bytes) -> bytes:
    return der[:-1] + bytes([der[-1] ^ 1])


def test_every_bit_of_a_response_counts(authority: Authority) -> None:
    """No altered response is stapled as another statement."""
    leaf = authority.issue("a.example.com")
    der = authority.respond(leaf)
    right = ocsp.verify(der, leaf.certificate, leaf.issuer, pem.now())
    for position in range(len(der)):
        altered = bytearray(der)
        altered[position] ^= 1 << position % 8
        try:
            staple = ocsp.verify(bytes(altered), leaf.certificate, leaf.issuer, pem.now())
        except ocsp.Unusable:
            continue
        assert (staple.since, staple.until) == (right.since, right.until)


def test_a_fetched_response_is_found_in_the_run_directory(tmp_path: Path, authority: Authority) -> None:
    config = {"certificates": {"shop": {**PAIR["certificates"]["shop"], "ocsp": "fetch"}}}
    leaf = authority.issue("shop.example.com")
    leaf.write(tmp_path / "tls", "shop")
    found = gather(config, tmp_path, tmp_path / "run")
    assert "names no OCSP responder" in found.warnings[0].message
    leaf = authority.issue("shop.example.com", responder="http://127.0.0.1:1/")
    leaf.write(tmp_path / "tls", "shop")
    found = gather(config, tmp_path, tmp_path / "run")
    assert found.warnings == [] and found.entries[0].staple is None
    file = staple_file(tmp_path / "run", found.entries[0].facts.fingerprint)
    file.parent.mkdir(parents=True)
    file.write_bytes(authority.respond(leaf))
    staple = gather(config, tmp_path, tmp_path / "run").entries[0].staple
    assert staple is not None and staple.der == file.read_bytes()
    file.write_bytes(authority.respond(leaf, status=x509_ocsp.OCSPCertStatus.REVOKED))
    assert gather(config, tmp_path, tmp_path / "run").entries[0].staple is None


# ---- secrets and staging ----


def test_no_key_is_ever_shown(tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    leaf = authority.issue("shop.example.com")
    leaf.write(tmp_path / "tls", "shop")
    body = key_pem(leaf.key).decode().splitlines()[1]
    found = gather(PAIR, tmp_path)
    other = key_pem(new_key()).decode()
    (tmp_path / "tls/shop.key").write_text(other)
    broken = gather(PAIR, tmp_path)
    shown = repr(found) + repr(found.entries) + repr(broken) + str([p.as_dict() for p in broken.problems]) + caplog.text
    assert body in found.material().decode()
    assert body not in shown and other.splitlines()[1] not in shown and "PRIVATE" not in shown


def test_staged_material_is_private_named_by_content_and_pruned(tmp_path: Path) -> None:
    first = stage(tmp_path, b"one")
    assert first == stage(tmp_path, b"one") and first.read_bytes() == b"one"
    assert first.stat().st_mode & 0o777 == 0o600 and first.parent.stat().st_mode & 0o777 == 0o700
    paths = [stage(tmp_path, b"%d" % number) for number in range(KEEP)]
    assert not first.exists() and all(p.exists() for p in paths)
    # What is staged again is new again.
    stage(tmp_path, b"0")
    stage(tmp_path, b"more")
    assert paths[0].exists() and not paths[1].exists()
    assert sorted(p.suffix for p in first.parent.iterdir()) == [".json"] * KEEP

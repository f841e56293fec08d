"""`pygate cert` and `pygate check` as their user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pygate.cli.main import main
from pygate.config import load
from pygate.config.problem import ConfigError
from pygate.control import certificates
from pygate.control.certificates import storage
from pygate.control.certificates.storage import Attempts
from tests.certificates.issuing import Authority, cert_pem, key_pem, new_key

CONFIG = """
[entrypoints.web]
address = "127.0.0.1:0"
tls = { certificates = ["shop", "all", "later"], default_certificate = "shop" }
[entrypoints.admin]
address = "127.0.0.1:0"
tls = { options = { client_auth = "require", client_ca = "tls/clients.pem" } }
[certificates.shop]
cert = "tls/shop.crt"
key = "tls/shop.key"
[certificates.all]
dir = "tls/all"
[certificates.client]
cert = "tls/client.crt"
key = "tls/client.key"
[certificates.later]
acme = "le"
hosts = ["later.example.com"]
[acme.le]
directory = "https://authority.example/directory"
agree_to_terms = true
dir = "{acme}"
[services.up]
endpoints = ["http://127.0.0.1:1"]
tls = {{ ca = "tls/clients.pem", certificate = "client" }}
[[routes]]
name = "shop"
match = {{ host = ["shop.example.com", "www.example.com"] }}
service = "up"
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    authority = Authority()
    tls = tmp_path / "tls"
    authority.issue("shop.example.com", "*.shop.example.com").write(tls, "shop")
    authority.issue("www.example.com", days=3, key=rsa.generate_private_key(65537, 2048)).write(tls / "all", "www")
    authority.issue("client").write(tls, "client")
    (tls / "clients.pem").write_bytes(cert_pem(authority.certificate))
    text = CONFIG.replace("{acme}", str(tmp_path / "acme")).replace("{{", "{").replace("}}", "}")
    (tmp_path / "pygate.toml").write_text(text)
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    assert main(["cert", "list", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_list_says_everything_but_keys(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cert", "list"]) == 0
    out = capsys.readouterr().out
    out = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DAY", out).replace(str(directory), "/etc/pygate")
    out = re.sub(r"le-[0-9a-f]{8}", "le-HASH", out)
    assert (
        out
        == """\
all  tls/all/www.crt
  names    www.example.com
  expires  DAY, 3 days left
  issuer   Test Root   key rsa-2048
  used by  entrypoint web; entrypoint admin; host www.example.com

client  tls/client.crt
  names    client
  expires  DAY, 90 days left
  issuer   Test Root   key ecdsa-p256
  used by  entrypoint admin; service up

later  /etc/pygate/acme/le-HASH/certificates/later.pem
  missing  not obtained yet
  acme     obtained at once
  used by  entrypoint web; entrypoint admin

shop  tls/shop.crt
  names    shop.example.com, *.shop.example.com
  expires  DAY, 90 days left
  issuer   Test Root   key ecdsa-p256
  used by  entrypoint web (default); entrypoint admin; host shop.example.com

certificates=4 expiring_within_21_days=1 missing=1
"""
    )


def test_list_as_json(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage.of(load("pygate.toml").value, "le").note("later", Attempts(["later.example.com"], 2, 4e9, "no connection"))
    told = listed(capsys)
    assert told["problems"] == [] and told["warnings"] == []
    by_name = {c["name"]: c for c in told["certificates"]}
    assert sorted(by_name) == ["all", "client", "later", "shop"]
    shop = by_name["shop"]
    assert shop["sans"] == ["shop.example.com", "*.shop.example.com"] and shop["default_of"] == ["web"]
    assert shop["days_left"] == pytest.approx(90, abs=0.2) and len(shop["fingerprint"]) == 64
    assert by_name["later"]["error"] == "no connection" and by_name["later"]["next"] == 4e9
    assert by_name["later"]["days_left"] is None
    assert by_name["client"]["services"] == ["up"]
    assert "PRIVATE" not in json.dumps(told)


def test_list_with_a_broken_one(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = key_pem(new_key())
    (directory / "tls/shop.key").write_bytes(other)
    assert main(["cert", "list"]) == 1
    out, err = capsys.readouterr()
    assert "missing  `tls/shop.key` does not belong to the certificate" in out
    assert "pygate.toml:10:" in err and "1 problem found" in err
    told = listed(capsys, code=1)
    assert told["problems"][0]["path"] == "certificates.shop.key"
    assert other.decode().splitlines()[1] not in out + err + json.dumps(told)


def test_list_without_any(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pygate.toml").write_text('[entrypoints.web]\naddress = "127.0.0.1:0"\n')
    assert main(["cert", "list", "-c", str(tmp_path)]) == 0
    assert "No certificates in this configuration" in capsys.readouterr().out


def test_list_of_a_wrong_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pygate.toml").write_text("[certificates.x]\ncrt = 1\n")
    assert main(["cert", "list", "-c", str(tmp_path)]) == 2
    assert "unknown key `crt`" in capsys.readouterr().err


def test_renew_leaves_a_wish(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cert", "renew", "later"]) == 0
    assert storage.of(load("pygate.toml").value, "le").wanted_now("later")
    assert main(["cert", "renew", "latter"]) == 2
    assert "did you mean `later`?" in capsys.readouterr().err
    assert main(["cert", "renew", "shop"]) == 2


def test_check_reads_the_files(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert "ok" in capsys.readouterr().out
    (directory / "tls/clients.pem").unlink()
    (directory / "tls/shop.key").chmod(0o640)
    assert main(["check"]) == 2
    out = capsys.readouterr().out
    assert "warning: the private key `tls/shop.key` can be read or written by other users (mode 0640)" in out
    assert "error: `tls/clients.pem` does not exist" in out and 'client_ca = "tls/clients.pem"' in out
    # Where the keys are not, the rest can be checked.
    assert main(["check", "--no-files"]) == 0
    capsys.readouterr()
    assert main(["check", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert [p["path"] for p in told["problems"]] == ["entrypoints.admin.tls.options.client_ca"]
    assert [w["path"] for w in told["warnings"]] == ["certificates.shop.key"]
    assert told["problems"][0]["line"] == 7


def test_prepare_stages_or_says_what_is_wrong(directory: Path) -> None:
    loaded = load("pygate.toml").ensure()
    path = certificates.prepare(loaded, directory / "run")
    assert path is not None
    material = json.loads(path.read_bytes())
    assert sorted(c["name"] for c in material["certificates"]) == ["all", "client", "shop"]
    assert sorted(material["roots"]) == ["tls/clients.pem"]
    # A revision holds paths, never what they lead to.
    assert b"PRIVATE KEY" not in loaded.json
    (directory / "tls/client.key").unlink()
    with pytest.raises(ConfigError, match="`tls/client.key` does not exist"):
        certificates.prepare(loaded, directory / "run")
    (directory / "plain.toml").write_text('[entrypoints.web]\naddress = "127.0.0.1:0"\n')
    assert certificates.prepare(load("plain.toml").ensure(), directory / "run") is None


def test_a_binding_key_is_a_reference(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = directory / "pygate.toml"
    file.write_text(file.read_text() + '[acme.other]\ndirectory = "https://a.example/"\neab_hmac_key = "c2VjcmV0"\n')
    assert main(["check"]) == 2
    out = capsys.readouterr().out
    assert "`acme.other.eab_hmac_key` must be a reference" in out and "c2VjcmV0" not in out

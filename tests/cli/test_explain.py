"""`pygate explain` as its user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
[entrypoints.private]
address = "127.0.0.1:8081"
allow_encoded_slash = true

[entrypoints.web]
address = "127.0.0.1:8080"

[services.orders]
endpoints = ["http://127.0.0.1:9000"]

[[routes]]
name = "orders"
match = { host = "api.example.com", path = "/orders/**", method = ["GET", "POST"] }
policies = ["keys", "strip"]
service = "orders"
audit = { durability = "answer" }

[[routes]]
name = "orders-any"
match = { path = "/orders/**", method = ["GET"] }
service = "orders"

[[routes]]
name = "inside"
match = "Host(`api.example.com`) && PathPrefix(`/orders`) && ClientIP(`10.0.0.0/8`) && !Header(`x-env`, `dev`)"
priority = 5
service = "orders"

[[routes]]
name = "gone"
match = { path = "/gone" }
policies = ["sorry"]
entrypoints = ["private"]

[policies.keys.api_key.keys]
app = "env:SECRET_NAME"

[policies.strip.strip_prefix]
prefix = "/orders"

[policies.sorry.answer]
status = 410
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pygate.toml"
    path.write_text(CONFIG)
    return path


def explain(config: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pygate.cli.main", "explain", "-c", str(config), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def told(config: Path, *args: str) -> tuple[int, dict[str, Any]]:
    done = explain(config, *args, "--json")
    return done.returncode, json.loads(done.stdout)


def test_the_winner_its_way_and_the_losers(config: Path) -> None:
    done = explain(config, "GET", "http://API.example.com:8080/x/../orders/7")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0].startswith("GET api.example.com /orders/7 from 127.0.0.1 on web, revision ")
    assert "route orders: 2 routes match; this one comes first" in lines
    assert "matched Host(`api.example.com`) && Path(`/orders/**`) && Method(`GET`, `POST`)" in lines
    assert "1. keys api_key: 1 key(s), in x-api-key, not sent upstream" in lines
    assert "2. strip strip_prefix: /orders taken from the path" in lines
    assert "audit answer: the answer's end waits for the outcome on disk (fails closed)" in lines
    assert "service orders (http://127.0.0.1:9000)" in lines
    assert "orders-any matches too, but host api.example.com is more specific than *" in lines
    assert "inside client_ip: wanted ClientIP(`10.0.0.0/8`), saw 127.0.0.1" in lines
    assert "\x1b" not in done.stdout, "no colour in a pipe"


@pytest.mark.parametrize(
    ("args", "route"),
    [
        (("GET", "https://api.example.com/orders/7"), "orders"),
        (("GET", "https://api.example.com/orders", "--client-ip", "10.1.1.1"), "inside"),
        (("GET", "https://api.example.com/orders", "--client-ip", "::ffff:10.1.1.1"), "inside"),
        (("GET", "https://api.example.com/orders", "--client-ip", "10.1.1.1", "-H", "X-Env: dev"), "orders"),
        (("GET", "http://other/orders?x=1"), "orders-any"),
        (("GET", "/orders"), "orders-any"),
        (("PUT", "http://other:8081/gone"), "gone"),
        (("PUT", "http://other/gone", "--entrypoint", "private"), "gone"),
    ],
)
def test_routes(config: Path, args: tuple[str, ...], route: str) -> None:
    code, answer = told(config, *args)
    assert (code, answer["winner"]["route"]) == (0, route)


@pytest.mark.parametrize(
    ("args", "code", "detail"),
    [
        (("PUT", "http://other:8080/orders"), "method-not-allowed", "no route allows PUT; allowed: GET"),
        (("GET", "http://other:8080/gone"), "no-route", "no route matches"),
        (("GET", "http://other:8080/a%2Fb"), "bad-request", "escaped slash in path (allow_encoded_slash = false)"),
        (("GET", "http://other:8081/a%2Fb"), "no-route", "no route matches"),
        (("GET", "http://other:8080/%00"), "bad-request", "escaped NUL in path"),
        (("OPTIONS", "*"), "no-route", "no route matches"),
    ],
)
def test_refusals(config: Path, args: tuple[str, ...], code: str, detail: str) -> None:
    exit_code, answer = told(config, *args)
    assert exit_code == 1
    assert (answer["refused"]["code"], answer["refused"]["detail"]) == (code, detail)


def test_a_route_of_another_entrypoint_says_so(config: Path) -> None:
    _, answer = told(config, "GET", "http://other:8080/gone")
    (gone,) = [loser for loser in answer["losers"] if loser["route"] == "gone"]
    assert gone["failed"] == {"condition": "entrypoint", "wanted": "private", "saw": "web"}


@pytest.mark.parametrize(
    "args",
    [
        ("GET", "ftp://x/"),
        ("GET", "x"),
        ("GET", "http://user@x/"),
        ("GET", "http://x:port/"),
        ("G T", "/"),
        ("GET", "/", "-H", "no colon"),
        ("GET", "/", "-H", "a b: c"),
        ("GET", "/", "--client-ip", "10.0.0"),
        ("GET", "/", "--entrypoint", "wbe"),
    ],
)
def test_wrong_usage(config: Path, args: tuple[str, ...]) -> None:
    done = explain(config, *args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_wrong_configuration_is_reported_like_by_check(config: Path) -> None:
    config.write_text(CONFIG.replace("service =", "servce ="))
    done = explain(config, "GET", "/")
    assert done.returncode == 2
    assert "servce" in done.stderr
    config.write_text(CONFIG.replace("PathPrefix", "PathPrefx"))
    done = explain(config, "GET", "/")
    assert done.returncode == 2
    assert "PathPrefx" in done.stderr

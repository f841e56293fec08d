"""Head parsing, route look-up, guard scans and reloads. Times include one call into the extension (about 50 ns)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pygate import _core
from pygate.guard import compile, packs

HEAD = (
    b"GET /api-3/small?page=2 HTTP/1.1\r\nHost: svc-00000.bench.test\r\nUser-Agent: bench/1\r\n"
    b"Accept: application/json\r\nAccept-Encoding: gzip\r\nAccept-Language: en\r\nX-Api-Key: k-1234567890\r\n"
    b"Cookie: session=0123456789abcdef\r\n\r\n"
)
SENTENCE = "The quarterly report says that orders grew by 12 % and that task 7 of the plan is done. "


def configuration(routes: int) -> bytes:
    """Ten path prefixes on each of `routes / 10` hosts."""
    document: dict[str, Any] = {
        "entrypoints": {"web": {"address": "127.0.0.1:8080"}},
        "services": {"origin": {"endpoints": ["http://127.0.0.1:9000"]}},
        "routes": [
            {
                "name": f"route-{n}",
                "match": {"host": f"svc-{n // 10:05}.bench.test", "path": f"/api-{n % 10}/**"},
                "service": "origin",
            }
            for n in range(routes)
        ],
    }
    return json.dumps(document).encode()


def test_head_parse(benchmark: BenchmarkFixture) -> None:
    parser = _core.HeadParser()
    assert benchmark(parser.parse, HEAD) == len(HEAD)


@pytest.mark.parametrize("routes", [10, 1_000, 10_000])
def test_route_match(benchmark: BenchmarkFixture, routes: int) -> None:
    revision = _core.Revision(configuration(routes), "0123456789ab")
    parser = _core.HeadParser()
    host = f"svc-{routes // 10 - 1:05}".encode()
    parser.parse(HEAD.replace(b"svc-00000", host))
    assert benchmark(parser.route, revision) == routes - 7


@pytest.mark.parametrize("size", [1_000, 10_000])
def test_reload(benchmark: BenchmarkFixture, size: int) -> None:
    text = configuration(size)
    revision = benchmark(_core.Revision, text, "0123456789ab")
    assert revision.name == "0123456789ab"


@pytest.mark.parametrize("kind", ["clean", "one-hit"])
@pytest.mark.parametrize("engine", ["rust", "hyperscan"])
def test_guard_scan_4k(benchmark: BenchmarkFixture, engine: str, kind: str) -> None:
    """A chat request of 4 KiB against every built-in pack."""
    rules = compile.ruleset(packs.load(packs.names()), engine)
    assert rules.engine == engine
    content = SENTENCE * (4096 // len(SENTENCE))
    if kind == "one-hit":
        content = content[:2000] + " key AKIAIOSFODNN7EXAMPL3 end " + content[2000:]
    body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    found = benchmark(rules.plan().count, "application/json", body)
    assert (found > 0) == (kind == "one-hit")

"""The plugin host: loading, hooks, budgets and isolation."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import uvloop

from pygate.plugins import Answer, Continue, Decision, Fail, Headers, PluginError, PluginHost, Request, Response

EXAMPLE = Path(__file__).parents[2] / "examples/plugins"

# pytest-timeout's own way of interrupting is the signal that is tested here.
pytestmark = pytest.mark.timeout(60, method="thread")

Load = Callable[..., PluginHost]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads plugins `a`, `b` … from their sources."""

    def load(*sources: str, budget: str = "20ms", fail: str = "closed", **settings: Any) -> PluginHost:
        plugins = {}
        for name, source in zip("abcdef", sources, strict=False):
            (tmp_path / f"{name}.py").write_text(source)
            plugins[name] = {"load": f"./{name}.py:P", "budget": budget, "fail": fail, "settings": settings}
        return PluginHost.load({"plugins": plugins}, tmp_path)

    return load


def method(body: str, kind: str = "def") -> str:
    """A plugin whose `on_request(self, r)` does this; its settings are `self.s`."""
    head = "import asyncio, time, sys\nclass P:\n    def __init__(self, s): self.s = s\n"
    return f"{head}    {kind} on_request(self, r):\n{indent(body, ' ' * 8)}\n"


def request() -> Request:
    return Request("GET", "/orders/7", Headers([("Accept", "*/*"), ("Cookie", "a"), ("cookie", "b")]), host="blue.x")


def test_changes_come_back_in_order(load: Load) -> None:
    host = load(method("r.headers.set('X-A', self.s['v'])\nr.headers.add('x-b', '2')\ndel r.headers['COOKIE']"), v="1")
    decision = host.call("a", "on_request", request())
    assert decision == Continue([("set", "X-A", "1"), ("add", "x-b", "2"), ("remove", "COOKIE", "")])
    assert host.counts["a"].calls == 1 and host.counts["a"].failures == 0


def test_headers_read_in_any_case() -> None:
    headers = request().headers
    assert (headers["accept"], headers.all("COOKIE"), headers.get("none")) == ("*/*", ["a", "b"], None)
    assert "Cookie" in headers and "x" not in headers and len(headers) == 3
    with pytest.raises(KeyError):
        headers["none"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-a", "a\r\nset-cookie: b"),
        ("x-a", "a\0"),
        ("x a", "b"),
        ("", "b"),
        ("x-a:", "b"),
        ("Transfer-Encoding", "chunked"),
        ("content-length", "0"),
        ("X-Request-Id", "1"),
        ("x-a", "☃"),
    ],
)
def test_no_line_that_could_split_or_mislead(name: str, value: str) -> None:
    ctx = request()
    with pytest.raises(ValueError):
        ctx.headers.set(name, value)
    with pytest.raises(ValueError):
        ctx.headers.add(name, value)
    with pytest.raises(ValueError):
        ctx.answer(200, {name: value})
    assert not ctx.headers.changes and ctx.reply is None


def test_an_answer_ends_the_chain(load: Load) -> None:
    host = load(method("r.answer(418, {'x-a': '1'}, 'short')"), method("raise AssertionError('not asked')"))
    told: list[Decision] = []
    host.run(["a", "b"], "on_request", request(), told.append)
    assert told == [Answer(418, [("x-a", "1")], b"short")]
    assert host.counts["b"].calls == 0


def test_responses_go_through_in_reverse_and_see_notes(load: Load) -> None:
    plugins = [method(f"r.headers.add('x-by', {name!r})").replace("on_request", "on_response") for name in "ab"]
    host = load(*plugins)
    ctx = request()
    ctx.notes["k"] = "v"
    response = Response(200, Headers(), ctx)
    told: list[Decision] = []
    host.run(["a", "b"], "on_response", response, told.append)
    assert told == [Continue([("add", "x-by", "b"), ("add", "x-by", "a")], {"k": "v"})]
    assert not host.wants(["a"], "on_request") and host.wants(["a", "b"], "on_response")


BAD = {
    "raises": "raise RuntimeError('no')",
    "exits": "sys.exit(3)",
    "interrupts": "raise KeyboardInterrupt",
    "recursion": "self.on_request(r)",
    "bad header": "r.headers.set('x', 'a\\nb')",
    "loops": "while True: pass",
    "sleeps": "time.sleep(60)",
    "swallows": "while True:\n    try:\n        time.sleep(0.001)\n    except Exception: pass",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
@pytest.mark.parametrize("fail", ["closed", "open"])
def test_a_bad_hook_fails_only_its_exchange(load: Load, body: str, fail: str, caplog: pytest.LogCaptureFixture) -> None:
    first = "if r.path == '/bad':\n    r.headers.set('x-half', 'done')\n    r.notes['half'] = 'done'\n"
    bad = method(f"{first}{indent(body, '    ')}\nr.headers.set('x-ok', '1')")
    host = load(bad, fail=fail)
    begun = time.monotonic()
    ctx = Request("GET", "/bad", Headers())
    with caplog.at_level(logging.CRITICAL):
        decision = host.call("a", "on_request", ctx)
    assert time.monotonic() - begun < 1
    if fail == "closed":
        assert isinstance(decision, Fail) and decision.plugin == "a"
    else:
        assert decision == Continue(), "half of its changes would be worse than none"
    assert host.counts["a"].failures == 1
    assert host.call("a", "on_request", request()) == Continue([("set", "x-ok", "1")])
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_hook_within_its_budget_is_never_interrupted(load: Load) -> None:
    host = load(method("r.headers.set('x-a', '1')"), budget="500us")
    ok = sum(isinstance(host.call("a", "on_request", request()), Continue) for _ in range(3000))
    assert ok + host.counts["a"].over_budget == 3000
    assert ok > 2900


def test_alarms_at_every_moment_stay_inside(load: Load) -> None:
    """Budgets around the hook's own time: the alarm rings before, in and after the hook, and never escapes."""
    host = load(method("sum(range(200))"), budget="10us")
    for microseconds in range(1, 60):
        host._plugins["a"].budget = microseconds / 1e6
        for _ in range(50):
            assert isinstance(host.call("a", "on_request", request()), Continue | Fail)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


ASYNC = {
    "answers": ("await asyncio.sleep(0.001)\nr.answer(204)", Answer(204, [], b"")),
    "changes": ("await asyncio.sleep(0)\nr.headers.set('x-a', '1')", Continue([("set", "x-a", "1")])),
}


@pytest.mark.parametrize(("body", "expected"), ASYNC.values(), ids=ASYNC)
def test_async_hooks(load: Load, body: str, expected: Decision) -> None:
    host = load(method(body, "async def"), method("r.headers.add('x-b', '2')"), budget="1s")

    async def go() -> Decision:
        told: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        host.run(["a"], "on_request", request(), told.set_result)
        assert not told.done()
        return await asyncio.wait_for(told, 5)

    assert uvloop.run(go()) == expected


ASYNC_BAD = {
    "waits": "await asyncio.sleep(60)",
    "raises": "await asyncio.sleep(0)\nraise ValueError",
    "loops": "while True: pass",
    "loops later": "await asyncio.sleep(0)\nwhile True: pass",
}


@pytest.mark.parametrize("body", ASYNC_BAD.values(), ids=ASYNC_BAD)
def test_a_bad_async_hook_fails_only_its_exchange(load: Load, body: str, caplog: pytest.LogCaptureFixture) -> None:
    host = load(method(body, "async def"), method("r.headers.set('x-b', '1')"))

    async def go() -> tuple[Decision, float]:
        loop = asyncio.get_running_loop()
        longest, last = 0.0, loop.time()

        async def watch() -> None:
            nonlocal longest, last
            while True:
                await asyncio.sleep(0.001)
                longest, last = max(longest, loop.time() - last), loop.time()

        watching = asyncio.create_task(watch())
        told: asyncio.Future[Decision] = loop.create_future()
        host.run(["a"], "on_request", request(), told.set_result)
        decision = await asyncio.wait_for(told, 5)
        await asyncio.sleep(0.01)
        watching.cancel()
        after: list[Decision] = []
        host.run(["b"], "on_request", request(), after.append)
        assert after == [Continue([("set", "x-b", "1")])]
        return decision, longest

    with caplog.at_level(logging.CRITICAL):
        decision, longest = uvloop.run(go())
    assert isinstance(decision, Fail)
    assert longest < 0.5, "the loop was held"


def test_an_endless_sync_hook_inside_a_running_loop(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    host = load(method("while True: pass"))

    async def go() -> Decision:
        told: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(host.run, ["a"], "on_request", request(), told.set_result)
        decision = await asyncio.wait_for(told, 5)
        await asyncio.sleep(0.05)
        return decision

    with caplog.at_level(logging.CRITICAL):
        assert isinstance(uvloop.run(go()), Fail)


def test_failures_are_logged_once_a_second(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    host = load(method("raise RuntimeError('boom')"))
    for _ in range(100):
        host.call("a", "on_request", request())
    assert len([r for r in caplog.records if r.name == "pygate.plugins"]) == 1
    assert host.counts["a"].failures == 100


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no-colon", "expected `package.module:attribute`"),
        ("./missing.py:P", "cannot be loaded: FileNotFoundError"),
        ("no.such.module:P", "cannot be loaded: ModuleNotFoundError"),
        ("./tenant.py:Tennant", "did you mean 'Tenant'?"),
        ("./tenant.py:Tenant", "refused its settings: KeyError"),
        ("json:dumps", "has neither `on_request` nor `on_response`"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_says_why(target: str, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        PluginHost.load({"plugins": {"p": {"load": target}}}, EXAMPLE)
    assert message in str(caught.value) and "plugin p" in str(caught.value)


def test_the_example() -> None:
    settings = {"tenants": {"blue": 1}}
    host = PluginHost.load(
        {"plugins": {"t": {"load": "./tenant.py:Tenant", "budget": "1s", "settings": settings}}}, EXAMPLE
    )
    ctx = request()
    decision = host.call("t", "on_request", ctx)
    assert decision == Continue([("set", "x-tenant", "1")], {"tenant": "blue"})
    answer = Response(200, Headers([("x-powered-by", "x")]), ctx)
    decision = host.call("t", "on_response", answer)
    assert isinstance(decision, Continue)
    assert decision.changes == [("remove", "x-powered-by", ""), ("set", "x-tenant-name", "blue")]
    stranger = Request("GET", "/", Headers(), host="red.x")
    assert host.call("t", "on_request", stranger) == Answer(
        403, [("content-type", "text/plain")], b"no tenant is called red\n"
    )
    host.close()

"""Health checks against real local servers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop

from pygate import _core
from pygate.control.health import MAX_HEAD, HealthChecker, check

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SICK = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Upstream:
    """A server that answers every request with `answer` and remembers the heads it saw."""

    def __init__(self, answer: bytes = OK) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.hang = False
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            if self.hang:
                await reader.read()
            writer.write(self.answer)
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def tcp(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, host, port)
        async with server:
            name = f"[{host}]" if ":" in host else host
            self.url = f"http://{name}:{server.sockets[0].getsockname()[1]}"
            yield self.url

    @contextlib.asynccontextmanager
    async def unix(self, path: Path) -> AsyncIterator[str]:
        server = await asyncio.start_unix_server(self._serve, path)
        async with server:
            self.url = f"unix:{path}"
            yield self.url


def play(story: Callable[[], Awaitable[None]]) -> None:
    """Runs a story on the loop that the control process uses."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await story()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


def config(urls: list[str], **health: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "path": "/healthz",
        "interval": "20ms",
        "timeout": "500ms",
        "healthy_after": 2,
        "unhealthy_after": 3,
    }
    settings |= health
    return {"services": {"s": {"endpoints": urls, "health": settings}}}


def target(url: str, **health: Any) -> _core.HealthTarget:
    (found,) = _core.health_targets(orjson.dumps(config([url], **health)))
    return found


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def shared(tmp_path: Path) -> _core.Shared:
    return _core.Shared.create(tmp_path / "shared", 2)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (OK, ""),
        (b"HTTP/1.0 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 200\r\nX: y\r\n\r\n", ""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, ""),
        (b"HTTP/1.1 299 Fine\r\n\r\n" + b"x" * 1_000_000, ""),
        (SICK, "status 503"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "status 301"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "status 101"),
        (b"", "closed without answer"),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n", "closed before the answer was complete"),
        (b"HTTP/2 200\r\n\r\n", "not HTTP/1"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP/1"),
        (b"HTTP/1.1 200 OK\n\n\r\n\r\n", "not HTTP/1"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * (2 * MAX_HEAD) + b"\r\n\r\n", "exceeds"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, "exceeds"),
    ],
)
def test_any_2xx_is_healthy_and_nothing_else(answer: bytes, reason: str) -> None:
    async def story() -> None:
        upstream = Upstream(answer)
        async with upstream.tcp() as url:
            found = await check(target(url))
            assert found == reason if not reason else reason in found

    play(story)


def test_the_request_is_plain_and_names_the_host() -> None:
    async def story() -> None:
        upstream = Upstream()
        async with upstream.tcp() as url:
            assert await check(target(url, path="/h?deep=1")) == ""
            assert await check(target(url, host="app.example")) == ""
        address = url.removeprefix("http://").encode()
        head = b"GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: pygate-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        assert upstream.heads == [head % (b"/h?deep=1", address), head % (b"/healthz", b"app.example")]

    play(story)


def test_unix_sockets_and_ipv6(tmp_path: Path) -> None:
    async def story() -> None:
        upstream = Upstream()
        async with upstream.unix(tmp_path / "app.sock") as url:
            assert await check(target(url)) == ""
        assert b"\r\nHost: localhost\r\n" in upstream.heads[0]
        (tmp_path / "app.sock").unlink(missing_ok=True)
        assert await check(target(url)) != ""
        async with upstream.tcp("::1") as url:
            assert await check(target(url)) == ""
        assert b"\r\nHost: [::1]:" in upstream.heads[1]

    play(story)


def test_refused_and_silent_endpoints_fail_in_time() -> None:
    async def story() -> None:
        assert "refused" in (await check(target(f"http://127.0.0.1:{free_port()}"))).lower()
        upstream = Upstream()
        upstream.hang = True
        async with upstream.tcp() as url:
            begun = asyncio.get_running_loop().time()
            assert await check(target(url, timeout="50ms")) == "no answer within 0.05 s"
            assert asyncio.get_running_loop().time() - begun < 5

    play(story)


def test_thresholds_decide_after_the_first_check(shared: _core.Shared) -> None:
    async def story() -> None:
        upstream = Upstream()
        checker = HealthChecker(shared)
        async with upstream.tcp() as url:
            key = _core.endpoint_key("s", url)
            assert shared.health(key) is None
            checker.update(config([url]))
            (status,) = checker.statuses()
            await until(lambda: status.checks == 1)
            assert shared.health(key) is True
            seen: list[tuple[int, bool | None]] = []
            for answer, needed in ((SICK, 3), (OK, 2), (SICK, 3)):
                upstream.answer = answer
                before = status.up
                # Checks under way while the answer changed count for either side; then the run begins.
                await until(lambda: status.run == 1)
                begun = status.checks
                await until(lambda before=before: status.up != before)  # type: ignore[misc]
                seen.append((status.checks - begun + 1, shared.health(key)))
                assert seen[-1][0] == needed
            assert [up for _, up in seen] == [False, True, False]
            assert status.reason == "status 503"
        await checker.close()

    play(story)


def test_a_dead_endpoint_is_found_at_once_and_comes_back(
    shared: _core.Shared, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        key = _core.endpoint_key("s", url)
        checker = HealthChecker(shared)
        checker.update(config([url]))
        (status,) = checker.statuses()
        await until(lambda: status.checks == 1)
        assert shared.health(key) is False
        async with Upstream().tcp(port=port):
            await until(lambda: shared.health(key) is True)
        await until(lambda: shared.health(key) is False)
        await checker.close()

    with caplog.at_level(logging.INFO, "pygate.control.health"):
        play(story)
    words = [record.getMessage().split(" is ")[1].split(":")[0] for record in caplog.records]
    assert words == ["down", "up", "down"]


def test_a_new_revision_keeps_what_is_known(shared: _core.Shared) -> None:
    async def story() -> None:
        one, two = Upstream(), Upstream(SICK)
        async with one.tcp() as a, two.tcp() as b:
            keys = [_core.endpoint_key("s", url) for url in (a, b)]
            checker = HealthChecker(shared)
            checker.update(config([a, b]))
            await until(lambda: [shared.health(k) for k in keys] == [True, False])
            tasks = {task for task in asyncio.all_tasks() if task.get_name().startswith("health")}
            statuses = checker.statuses()
            # Another service appears: nothing restarts.
            wider = config([a, b])
            wider["services"]["t"] = wider["services"]["s"]
            checker.update(wider)
            assert tasks <= asyncio.all_tasks() and len(checker.statuses()) == 4
            # Other settings: the check restarts, what it knows stays.
            checker.update(config([a, b], interval="1h"))
            assert [shared.health(k) for k in keys] == [True, False]
            assert all(new is old for new, old in zip(checker.statuses(), statuses, strict=True))
            # No configuration at all: nothing changes.
            with pytest.raises(ValueError):
                checker.update({"services": 7})
            assert len(checker.statuses()) == 2
            # An endpoint leaves: it is not down, it is unknown.
            checker.update(config([a]))
            assert [shared.health(k) for k in keys] == [True, None]
            checker.update({})
            assert [shared.health(k) for k in keys] == [None, None]
            # The check ends with its service.
            count = len(two.heads)
            await asyncio.sleep(0.1)
            assert len(two.heads) == count
            await checker.close()

    play(story)


def test_another_control_process_knows_what_the_last_one_found(tmp_path: Path, shared: _core.Shared) -> None:
    async def story() -> None:
        upstream = Upstream(SICK)
        async with upstream.tcp() as url:
            key = _core.endpoint_key("s", url)
            checker = HealthChecker(shared)
            checker.update(config([url]))
            await until(lambda: shared.health(key) is False)
            await checker.close()
            assert shared.health(key) is False
            upstream.answer = OK
            again = HealthChecker(_core.Shared.open(tmp_path / "shared"))
            again.update(config([url], healthy_after=2))
            (status,) = again.statuses()
            assert status.up is False
            await until(lambda: status.checks == 1)
            assert shared.health(key) is False, "one success is not two"
            await until(lambda: shared.health(key) is True)
            await again.close()

    play(story)


def test_other_processes_see_health(tmp_path: Path, shared: _core.Shared) -> None:
    code = "import sys; from pygate import _core; print(_core.Shared.open(sys.argv[1]).health(int(sys.argv[2])))"

    async def ask(key: int) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(tmp_path / "shared"), str(key), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return output.decode().strip()

    async def story() -> None:
        key = _core.endpoint_key("s", "http://a")
        answers = []
        for up in (True, False, None):
            shared.set_health(key, up)
            answers.append(await ask(key))
        assert answers == ["True", "False", "None"]

    play(story)


def test_targets_follow_the_configuration(shared: _core.Shared) -> None:
    value = config(["http://h:1", "unix:/run/x"])
    value["services"]["s"]["endpoints"] += [{"url": "http://idle", "weight": 0}]
    value["services"]["unchecked"] = {"endpoints": ["http://h:2"]}
    value["services"]["broken"] = {"endpoints": ["ftp://h"], "health": {"path": "/"}}
    value["services"]["plain"] = {"endpoints": ["http://[::1]"], "health": {"path": "/up"}}
    found = {t["endpoint"]: t for t in _core.health_targets(orjson.dumps(value))}
    assert set(found) == {"h:1", "unix:/run/x", "[::1]:80"}
    assert found["[::1]:80"] == {
        "service": "plain",
        "endpoint": "[::1]:80",
        "key": _core.endpoint_key("plain", "http://[::1]"),
        "host": "::1",
        "port": 80,
        "socket": "",
        "host_header": "[::1]",
        "tls": False,
        "path": "/up",
        "grpc": None,
        "interval": 5.0,
        "timeout": 2.0,
        "healthy_after": 2,
        "unhealthy_after": 3,
    }
    assert (found["unix:/run/x"]["socket"], found["unix:/run/x"]["host"]) == ("/run/x", "")
    assert shared.ejected_for(found["h:1"]["key"]) is None
    assert shared.breaker("none") == "closed"
    shared.clear_worker(0)
    shared.clear_worker(99)

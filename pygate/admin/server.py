"""What the admin listener answers.

    GET  /-/live      200 while the control process runs                        (open)
    GET  /-/ready     200 when a worker serves, else 503                        (open)
    POST /-/reload    reads the configuration again; 200, or 422 with problems
    GET  /revision    revision in force, workers, last reload
    GET  /config      the configuration in force, secrets redacted
    GET  /metrics     Prometheus text
    …    /ai/…        virtual keys, teams, projects, usage: `pygate.ai.api`

Rules: everything but health needs the bearer token when one is configured, whoever asks; without a token only
loopback addresses are listened on (refused at start otherwise). A browser's cross-site request is refused: `Host` must
be an address or localhost, and `Origin` must be absent or the same.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from pygate.admin.client import STORE_HEADER
from pygate.admin.http import Request, Response, Server
from pygate.ai.api import PREFIX as AI
from pygate.ai.refusal import Refusal
from pygate.config.secrets import SecretError, redact, resolve
from pygate.control.listeners import shown

if TYPE_CHECKING:
    from pygate.control.process import Control

log = logging.getLogger("pygate.admin")


async def run(control: Control) -> None:
    """Serves the admin listener until cancelled (a duty of the control process)."""
    if control.admin is None:
        return
    server = await asyncio.start_server(Server(Admin(control).handle).connected, sock=control.admin.sock.dup())
    log.info("admin on http://%s", shown(control.admin.sock))
    async with server:
        await server.serve_forever()


class Admin:
    """Routes admin requests."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._routes: dict[str, tuple[str, bool, Callable[[Request], Awaitable[Response]]]] = {
            "/-/live": ("GET", True, self._live),
            "/-/ready": ("GET", True, self._ready),
            "/-/reload": ("POST", False, self._reload),
            "/revision": ("GET", False, self._revision),
            "/config": ("GET", False, self._config),
            "/metrics": ("GET", False, self._metrics),
        }

    async def handle(self, request: Request) -> Response:
        """The answer to one request."""
        if request.path.startswith(AI):
            return self._refuse(request) or await self._ai(request)
        found = self._routes.get(request.path)
        if found is None:
            return Response(404, f"no such path; there are: {', '.join([*self._routes, AI])}\n".encode())
        method, is_open, answer = found
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            return Response(405, b"method not allowed\n", headers={"allow": method})
        if not is_open and (refusal := self._refuse(request)):
            return refusal
        return await answer(request)

    def _refuse(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        origin = request.headers.get("origin")
        reference = str(self._control.loaded.setting("admin", "token"))
        if not reference and not _is_address(host):
            return Response(421, b"ask for this machine by address or as localhost\n")
        if origin is not None and origin.partition("://")[2] != host:
            return Response(403, b"cross-origin requests are refused\n")
        if not reference:
            return None
        try:
            token = resolve(reference)
        except SecretError as e:
            log.error("admin.token: %s", e)
            return Response(503, b"the admin token is not available\n")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
            return None
        return Response(401, b"a bearer token is needed\n", headers={"www-authenticate": 'Bearer realm="pygate"'})

    async def _live(self, request: Request) -> Response:
        return Response(200, b"live\n")

    async def _ready(self, request: Request) -> Response:
        control = self._control
        if control.stopping:
            return Response(503, b"stopping\n")
        return Response(200, b"ready\n") if control.supervisor.ready else Response(503, b"no worker is ready\n")

    async def _reload(self, request: Request) -> Response:
        result = await self._control.reload("admin")
        body = {"ok": result.ok, "message": result.message, "problems": result.problems}
        return _json({**body, "revision": self._control.loaded.revision}, 200 if result.ok else 422)

    async def _revision(self, request: Request) -> Response:
        control, last = self._control, self._control.last_reload
        return _json(
            {
                "revision": control.loaded.revision,
                "workers": [w.describe() for w in sorted(control.supervisor.workers, key=lambda w: w.slot)],
                "restarts": control.supervisor.restarts,
                "listening": control.listening,
                "reloads": control.reloads,
                "last_reload": {"ok": last.ok, "at": last.at, "message": last.message, "problems": last.problems},
            }
        )

    async def _config(self, request: Request) -> Response:
        loaded = self._control.loaded
        return _json({"revision": loaded.revision, "config": redact(orjson.loads(loaded.json))})

    async def _ai(self, request: Request) -> Response:
        control = self._control
        store = request.headers.get(STORE_HEADER)
        if store is not None and store != control.ai.settings.url:
            return _json({"error": Refusal(f"this gateway keeps its keys in {control.ai.settings.url}").as_dict()}, 421)
        answer, changed = await control.ai.answer(request.method, request.path, request.query, request.body)
        if changed:
            late = await control.tell_keys()
            if isinstance(answer.value, dict) and request.method != "GET":
                answer.value["in_force"] = late == 0
        return _json(answer.value, answer.status)

    async def _metrics(self, request: Request) -> Response:
        telemetry = self._control.telemetry
        if telemetry is None:
            return Response(503, b"telemetry is not running\n")
        body, kind = await asyncio.to_thread(telemetry.prometheus, request.headers.get("accept", ""))
        return Response(200, body, kind)


def _is_address(host: str) -> bool:
    """`Host` is an IP address or localhost: a name that a foreign site can point here (DNS rebinding) is neither."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _json(value: Any, status: int = 200) -> Response:
    return Response(status, orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n", "application/json")

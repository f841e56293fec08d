"""Between the engine and the plugin host: what plugins are shown, and what their decision becomes.

One host per revision; an exchange is shown to the plugins of the revision it is pinned to. Routes without plugins
never come here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pygate import _core
from pygate.plugins.context import Headers, Request, Response
from pygate.plugins.host import Answer, Continue, Decision, Hook, PluginHost

KEEP_HOSTS = 4
"""Revisions whose plugins are kept for exchanges that still run under them."""


class PluginDoor:
    """Calls plugins for one gateway."""

    def __init__(self) -> None:
        self.gateway: _core.Gateway | None = None
        self._hosts: dict[str, PluginHost] = {}
        #: By number of the exchange: its serial and the request its plugins saw.
        self._requests: dict[int, tuple[int, Request]] = {}

    def load(self, revision: str, config: Mapping[str, Any], directory: Path) -> None:
        """Loads the plugins of a revision; only in the main thread. Raises `PluginError`."""
        plugins = {name: _shipped(name, plugin, directory) for name, plugin in config.get("plugins", {}).items()}
        self._hosts[revision] = PluginHost.load({"plugins": plugins}, directory)
        for old in list(self._hosts)[:-KEEP_HOSTS]:
            self._hosts.pop(old).close()

    def __call__(self, exchange: int, serial: int, response: bool) -> None:
        """What the engine calls."""
        gateway = self.gateway
        view = gateway.plugin_view(exchange, serial) if gateway is not None else None
        if gateway is None or view is None:
            return
        host = self._hosts.get(view["revision"])
        if host is None:
            gateway.plugin_fail(exchange, serial)
            return
        names = view["plugins"]
        hook: Hook = "on_response" if response else "on_request"
        context = self._response(exchange, serial, view) if response else _request(view)
        if not response and host.wants(names, "on_response"):
            assert isinstance(context, Request)
            self._requests[exchange] = (serial, context)
        if not host.wants(names, hook):
            gateway.plugin_continue(exchange, serial, [])
            return

        def done(decision: Decision) -> None:
            if isinstance(decision, Continue):
                gateway.plugin_continue(exchange, serial, decision.changes)
            elif isinstance(decision, Answer):
                gateway.plugin_answer(exchange, serial, decision.status, decision.headers, decision.body)
            else:
                gateway.plugin_fail(exchange, serial)

        host.run(names, hook, context, done)

    def _response(self, exchange: int, serial: int, view: dict[str, Any]) -> Response:
        kept = self._requests.pop(exchange, None)
        request = kept[1] if kept is not None and kept[0] == serial else _request({**view, "fields": []})
        return Response(view["status"], Headers(view["fields"]), request)


def _shipped(name: str, plugin: dict[str, Any], directory: Path) -> dict[str, Any]:
    """A plugin that is a file lies in the revision's directory, as it was when the revision was made."""
    file = Path("plugins") / f"{name}.py"
    if not (directory / file).exists():
        return plugin
    return {**plugin, "load": f"{file}:{plugin['load'].rpartition(':')[2]}"}


def _request(view: dict[str, Any]) -> Request:
    return Request(
        view["method"],
        view["path"],
        Headers(view["fields"]),
        query=view["query"],
        scheme=view["scheme"],
        host=view["host"],
        client_ip=view["client_ip"],
        route=view["route"],
        exchange=view["exchange"],
        identity=view["identity"],
    )

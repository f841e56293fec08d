"""Example plugin: routes a tenant's calls by a header made from the host, and refuses unknown tenants."""

from __future__ import annotations

from typing import Any

from pygate.plugins import Request, Response


class Tenant:
    """`settings`: `tenants`, a table from the host's first label to the tenant's number."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.tenants = {str(name): str(number) for name, number in settings["tenants"].items()}

    def on_request(self, request: Request) -> None:
        name = request.host.partition(".")[0]
        number = self.tenants.get(name)
        if number is None:
            request.answer(403, {"content-type": "text/plain"}, f"no tenant is called {name}\n")
            return
        request.headers.set("x-tenant", number)
        request.notes["tenant"] = name

    def on_response(self, response: Response) -> None:
        response.headers.remove("x-powered-by")
        response.headers.set("x-tenant-name", response.notes.get("tenant", ""))

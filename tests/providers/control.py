"""What tests ask of the simulator itself: `/__ledger`, `/__faults`, `/__providers`, `/__service-account`, `/__health`.

- `GET /__ledger[?provider=…&key=…&full=1]`, `GET /__ledger/sums`, `DELETE /__ledger` (and what providers remember)
- `PUT /__faults` (a list of rules, see `faults`), `GET /__faults`, `DELETE /__faults`
- `GET /__providers`: base URL, models and a valid key of each
- `GET /__service-account`: the credentials file of a Vertex service account, with this server as its token endpoint
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from tests.providers.catalogue import PROVIDERS
from tests.providers.wire import Request, Whole

if TYPE_CHECKING:
    from tests.providers.service import Service


def handle(service: Service, request: Request, base: str) -> Whole:
    match request.method, request.path:
        case "GET", "/__health":
            return Whole.json({"ok": True, "calls": service.calls})
        case "GET", "/__ledger":
            query = request.query
            return Whole.json(service.ledger.told(query.get("provider"), query.get("key"), "full" in query))
        case "GET", "/__ledger/sums":
            return Whole.json(service.ledger.sums())
        case "DELETE", "/__ledger":
            service.ledger.clear()
            service.memory.clear()
            service.used = 0
            return Whole.json({"ok": True})
        case "GET", "/__faults":
            return Whole.json([rule.told() for rule in service.faults.rules])
        case "PUT", "/__faults":
            try:
                service.faults.put(orjson.loads(request.body))
            except ValueError as error:
                return Whole.json({"error": str(error)}, status=400)
            return Whole.json([rule.told() for rule in service.faults.rules])
        case "DELETE", "/__faults":
            service.faults.put([])
            return Whole.json([])
        case "GET", "/__providers":
            return Whole.json({name: _provider(name, base) for name in PROVIDERS})
        case "GET", "/__service-account":
            return Whole.json(service.tokens.account(base))
    return Whole.json({"error": f"nothing at {request.method} {request.path}"}, status=404)


def _provider(name: str, base: str) -> dict[str, object]:
    provider = PROVIDERS[name]
    key: object = f"{name}-key-1"
    if provider.auth == "sigv4":
        key = {"access_key": "AKIDBEDROCK1", "secret_key": "bedrock-secret-1", "bearer": f"{name}-key-1"}
    elif provider.auth == "token":
        key = f"{base}/__service-account"
    elif provider.auth == "none":
        key = None
    return {
        "dialect": provider.dialect,
        "base_url": f"{base}/{name}{provider.bases[0]}",
        "models": list(provider.models),
        "key": key,
    }

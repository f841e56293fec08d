"""Where the command line's questions on keys and usage go: to the running gateway, else to the store itself.

Both ways are answered by `pygate.ai.api`. A change that is made in the store reaches a gateway that runs nevertheless:
it looks for changes several times a second.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from pygate.admin.client import STORE_HEADER, Unreachable, ask
from pygate.ai.api import PREFIX, Operations
from pygate.ai.database import StoreError
from pygate.ai.settings import Settings
from pygate.ai.store import Store
from pygate.config import load
from pygate.config.address import Address
from pygate.config.secrets import SecretError, resolve

DEFAULT_CONFIG = "pygate.toml"
DEFAULT_ADMIN = "127.0.0.1:9901"


class DeskError(Exception):
    """Nobody can answer; the message says what to do."""


@dataclass
class Desk:
    """Asks one gateway, or one store."""

    admin: Address | None
    token: str
    settings: Settings | None

    @classmethod
    def of(cls, config: str | None, admin: str | None) -> Desk:
        """By a configuration (its default may be missing), or by the address of an admin listener alone.

        Raises `DeskError`, and `ConfigError` for a configuration that is wrong.
        """
        try:
            given = Address.parse(admin) if admin else None
            if config is None and not Path(DEFAULT_CONFIG).exists():
                return cls(given or Address.parse(DEFAULT_ADMIN), "", None)
            loaded = load(config or DEFAULT_CONFIG).ensure()
            address = str(loaded.setting("admin", "address"))
            reference = str(loaded.setting("admin", "token"))
            listener = given or (Address.parse(address) if address else None)
            return cls(listener, resolve(reference) if reference else "", Settings.of(loaded))
        except ValueError as e:
            raise DeskError(f"--admin: {e}") from None
        except SecretError as e:
            raise DeskError(f"admin.token: {e}") from None

    def ask(self, method: str, *path: str, query: dict[str, str] | None = None, body: Any = None) -> tuple[int, Any]:
        """Status and JSON. Raises `DeskError`, `AskError`, `StoreError`."""
        target = PREFIX + "/".join(quote(part, safe="") for part in path)
        text = urlencode(query or {})
        silence = "the configuration has no admin listener"
        if self.admin is not None:
            headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
            if self.settings is not None:
                headers[STORE_HEADER] = self.settings.url
            try:
                return ask(self.admin, method, target + (f"?{text}" if text else ""), body, headers)
            except Unreachable as e:
                silence = str(e)
        if self.settings is None:
            raise DeskError(f"{silence}, and there is no {DEFAULT_CONFIG} here that names a store; give -c CONFIG")
        return self._by_itself(method, target, text, body)

    def _by_itself(self, method: str, target: str, query: str, body: Any) -> tuple[int, Any]:
        assert self.settings is not None
        url = self.settings.resolved()
        if url.startswith("sqlite:") and method == "GET" and not Path(url.removeprefix("sqlite:")).exists():
            raise StoreError(f"there is no store at {url}: no gateway with keys has run with this configuration yet")
        store = Store.open(url)
        try:
            payload = b"" if body is None else orjson.dumps(body)
            answer = Operations(store).answer(method, target, query, payload, int(time.time()))
            return answer.status, answer.value
        finally:
            store.close()

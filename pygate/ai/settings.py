"""What the configuration says about the store.

[ai.store]
url = "sqlite:keys.db"          # default; relative to audit.dir
url = "env:PYGATE_STORE"        # or file:PATH: a URL with a password is never written here
url = "postgresql://…"
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pygate.ai.database import StoreError
from pygate.config import Loaded
from pygate.config.secrets import SecretError, is_reference, resolve

DEFAULT_URL = "sqlite:keys.db"


@dataclass(frozen=True)
class Settings:
    """Where keys and usage are kept."""

    #: As configured: may be a reference.
    url: str
    audit_dir: Path
    #: There is AI traffic to govern: the store is opened at start, and made if need be.
    wanted: bool

    @classmethod
    def of(cls, loaded: Loaded) -> Settings:
        store = loaded.value.get("ai", {}).get("store", {})
        url = str(store.get("url", DEFAULT_URL))
        audit_dir = Path(str(loaded.setting("audit", "dir")))
        wanted = _governs(loaded.value)
        if url.startswith("sqlite:"):
            path = audit_dir / url.removeprefix("sqlite:")
            url = f"sqlite:{path.absolute()}"
            wanted = wanted or path.exists()
        return cls(url, audit_dir, wanted)

    def resolved(self) -> str:
        """The URL itself; may hold a password. Raises `StoreError`."""
        if is_reference(self.url):
            try:
                found = resolve(self.url)
            except SecretError as e:
                raise StoreError(f"ai.store.url: {e}") from None
            if found.startswith("sqlite:"):
                return f"sqlite:{(self.audit_dir / found.removeprefix('sqlite:')).absolute()}"
            return found
        if self.url.startswith(("postgresql:", "postgres:")) and _holds_password(self.url):
            raise StoreError(
                'ai.store.url holds a password: write url = "env:PYGATE_STORE" and put the URL into that variable'
            )
        return self.url


def _governs(value: dict[str, Any]) -> bool:
    return "ai" in value or any(isinstance(r, dict) and "llm" in r for r in value.get("routes", ()))


def _holds_password(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.password) or "password=" in parts.query

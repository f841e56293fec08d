from typing import Any

DRIVERS: dict[str, Any] = {}

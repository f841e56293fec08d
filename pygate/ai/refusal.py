"""What is wrong with what somebody asked for, said so that the next try succeeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pygate.config import schema


class Refusal(Exception):
    """A request that cannot be done; never carries a secret. `status` is that of the admin listener's answer."""

    def __init__(
        self, message: str, *, status: int = 400, expected: str | None = None, nearest: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.expected = expected
        self.nearest = nearest

    def as_dict(self) -> dict[str, Any]:
        """Every key always there, `null` where unknown."""
        return {"message": self.message, "expected": self.expected, "nearest": self.nearest}

    def __str__(self) -> str:
        hint = f"; did you mean `{self.nearest}`?" if self.nearest else ""
        return self.message + hint + (f"; expected {self.expected}" if self.expected else "")


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name most like `name`, if any is like it at all."""
    return schema.nearest(name, list(known))


def unknown(what: str, name: str, known: Sequence[str], hint: str | None = None) -> Refusal:
    """Nothing is called so."""
    return Refusal(f"no {what} `{name}`", status=404, nearest=nearest(name, known), expected=hint)

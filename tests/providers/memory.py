"""What providers keep between calls: prompt caches, stored responses, files, batches, access tokens.

Bounded: the oldest entry goes first. `DELETE /__ledger` empties it, so that what follows is deterministic again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

MOST = 20_000


class Shelf:
    """Entries by owner and id."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.entries: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def put(self, owner: str, id: str, value: Any) -> None:
        self.entries[owner, id] = value
        while len(self.entries) > self.most:
            self.entries.popitem(last=False)

    def get(self, owner: str, id: str) -> Any:
        return self.entries.get((owner, id))

    def take(self, owner: str, id: str) -> Any:
        return self.entries.pop((owner, id), None)

    def of(self, owner: str) -> list[Any]:
        return [value for (whose, _), value in self.entries.items() if whose == owner]


class Memory:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.prefixes = Shelf()
        self.responses = Shelf(2_000)
        self.files = Shelf(200)
        self.batches = Shelf(200)

    def prefix(self, owner: str, parts: list[str]) -> int:
        """How many of the first parts were seen before, as a prefix."""
        found = 0
        for at, mark in enumerate(_marks(parts), 1):
            if self.prefixes.get(owner, mark):
                found = at
        return found

    def remember(self, owner: str, parts: list[str]) -> None:
        for mark in _marks(parts):
            self.prefixes.put(owner, mark, True)


def _marks(parts: list[str]) -> list[str]:
    digest, marks = hashlib.sha256(), []
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part.encode("utf-8", "surrogatepass"))
        marks.append(digest.hexdigest())
    return marks

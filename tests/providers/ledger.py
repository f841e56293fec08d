"""What the provider counted: an entry per call, told by `GET /__ledger`, emptied by `DELETE`.

- `usage` is what the complete answer costs, `sent` what was written before the stream ended or the client left: all of
  the input and the tokens of the deltas that were written. Both are equal for a call that finished.
- A refused call costs nothing.
- Entries are kept without bound (some 1 KB each), heads and bodies of the last ones up to 32 MiB: `?full=1` tells them.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.providers.wire import Headers, Usage

FULL = 32 << 20


@dataclass
class Entry:
    number: int
    provider: str
    operation: str = ""
    model: str = ""
    key: str = ""
    stream: bool = False
    status: int = 0
    """0: nothing was answered."""
    usage: Usage = field(default_factory=Usage)
    sent: Usage = field(default_factory=Usage)
    finished: bool = False
    """The whole answer was written, as this call's faults wanted it to be."""
    gone: bool = False
    """The client closed the connection before."""
    cut: bool = False
    """A fault ended it early."""
    deltas: int = 0
    """Written ones."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch, when the request was complete."""
    first_ms: float | None = None
    """From then to the head of the answer."""
    ended_ms: float | None = None
    """From then to the end, or until it was noticed that the client had gone."""
    connection: int = 0
    target: str = ""
    agent: str = ""
    """What the client calls itself."""

    def ms(self) -> float:
        return round((time.time() - self.started) * 1000, 3)


class Ledger:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.entries: list[Entry] = []
        self.full: deque[tuple[Entry, Headers, bytes]] = deque()
        self.size = 0

    def begin(self, entry: Entry, headers: Headers, body: bytes) -> None:
        self.entries.append(entry)
        self.full.append((entry, headers, body))
        self.size += len(body) + 1024
        while self.size > FULL:
            self.size -= len(self.full.popleft()[2]) + 1024

    def told(self, provider: str | None = None, key: str | None = None, full: bool = False) -> list[dict[str, Any]]:
        more = {id(entry): (headers, body) for entry, headers, body in self.full} if full else {}
        told = []
        for entry in self.entries:
            if provider not in (None, entry.provider) or key not in (None, entry.key):
                continue
            line = asdict(entry)
            if kept := more.get(id(entry)):
                line["headers"] = kept[0]
                line["body"] = kept[1].decode("utf-8", "backslashreplace")
            told.append(line)
        return told

    def sums(self) -> dict[str, Any]:
        """Calls and tokens, together and by provider, model and key (`provider/model/key`)."""
        total: dict[str, int] = {}
        by: dict[str, dict[str, int]] = {}
        for entry in self.entries:
            line = by.setdefault(f"{entry.provider}/{entry.model}/{entry.key}", {})
            for sums in (total, line):
                for name, value in _countable(entry).items():
                    sums[name] = sums.get(name, 0) + value
        return {"total": total, "by": by}


def _countable(entry: Entry) -> dict[str, int]:
    counts = {
        "calls": 1,
        "finished": int(entry.finished),
        "gone": int(entry.gone),
        "cut": int(entry.cut),
        "refused": int(entry.status >= 400),
    }
    counts |= asdict(entry.usage)
    return counts | {f"sent_{name}": value for name, value in asdict(entry.sent).items()}

"""Following the logs of all workers while they are written.

Rules:
1. Use either `poll` or `calls` on one `Tail`: both move the same position.
2. A record or call comes once. After a restart, `Tail(dir, start=marks)` goes on where `marks()` was taken.
3. Unfinished frames are waited for, new workers and segments are found, damage is skipped and counted.
"""

from __future__ import annotations

from os import PathLike
from typing import Any, Literal

from pygate._core import AuditTail

Marks = dict[str, tuple[int, int, int]]


class Tail:
    """Follows every log below `dir` (which need not exist yet).

    `start`: `"end"` tells only what comes from now on, `"begin"` everything, marks go on where they were taken.
    `sampled_only` leaves out calls whose trace is not sampled (for `calls`).
    """

    def __init__(
        self, dir: str | PathLike[str], start: Literal["begin", "end"] | Marks = "end", *, sampled_only: bool = False
    ) -> None:
        self._tail = AuditTail(dir, start, sampled_only)

    def poll(self, limit: int = 10_000) -> list[dict[str, Any]]:
        """The next records, about `limit` of them; `[]` when there are none now.

        Keys are the fields of `Intent` and `Outcome` (`rust/core/src/audit/record.rs`) plus `kind` (`intent`,
        `outcome`), `log` and `sequence`. Ids are lower-case hex, `exchange` a UUID; empty, zero and false fields
        are left out; `findings` is a list of dicts. Raises OSError.
        """
        return self._tail.records(limit)[0]

    def calls(self, limit: int = 10_000) -> list[dict[str, Any]]:
        """The calls that ended since the last time, each one dict; reads about `limit` records.

        Keys as for `poll`, intent and outcome together: `start_ns` is the intent's `wall_ns`, `end_ns` the
        outcome's, `complete` says whether there is an outcome. A request that never became a call (malformed)
        has no `start_ns`. A call whose worker died without an outcome comes when the next worker goes on with
        its log. Raises OSError.
        """
        return self._tail.calls(limit)[0]

    def marks(self) -> Marks:
        """`{log: (segment index, offset, next sequence)}`, to be saved and given to `start`."""
        return self._tail.marks()

    def damaged(self) -> int:
        """Pieces skipped because they were damaged; `pygate audit verify` says where."""
        return self._tail.damaged()

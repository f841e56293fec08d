"""The last sampled call of every duration bucket: what leads from a slow bucket to its trace.

Bounded: `MAX_SERIES` series with one exemplar per bucket each; the series not seen for longest is forgotten.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from pygate.telemetry.call import Call

MAX_SERIES = 2048

#: Boundaries of `http.server.request.duration` in seconds, as in `core::observe`.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class SeriesKey(NamedTuple):
    route: str
    method: str
    scheme: str
    status: int
    code: str
    grpc_status: str = ""


@dataclass(frozen=True, slots=True)
class Exemplar:
    #: Seconds.
    value: float
    time_ns: int
    trace_id: int
    span_id: int
    exchange: str
    revision: str

    @classmethod
    def of(cls, call: Call) -> Exemplar:
        """From a call with trace and span ids."""
        seconds = call.duration_ns / 1e9
        trace, span = int(call.trace_id, 16), int(call.span_id or "0", 16)
        return cls(seconds, call.end_ns, trace, span, call.exchange, call.revision)


class Exemplars:
    """Written by the record thread, read by exporters."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: OrderedDict[SeriesKey, dict[int, Exemplar]] = OrderedDict()

    def put(self, key: SeriesKey, exemplar: Exemplar) -> None:
        with self._lock:
            self._series.setdefault(key, {})[bisect_left(BOUNDS, exemplar.value)] = exemplar
            self._series.move_to_end(key)
            if len(self._series) > MAX_SERIES:
                self._series.popitem(last=False)

    def of(self, key: SeriesKey) -> dict[int, Exemplar]:
        """By bucket number."""
        with self._lock:
            return dict(self._series.get(key, {}))

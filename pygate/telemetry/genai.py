"""Metrics of calls of models, counted from the audit log's records.

Workers count nothing of this: a call's tokens and money are known where its record is written, and every record is read
here anyway. Names, units and bounds are those of the OpenTelemetry GenAI conventions.

Rules:

1. Every call that reached a provider counts once, sampled or not. Refused ones are in `http.server.request.duration`.
2. Attributes come from the configuration and the store of keys; of more than `MAX_SERIES` combinations the rest is
   counted in one series, `otel.metric.overflow`.
3. Money is summed in whole nano-USD and divided when it is shown.
4. The names of 2026 (`gen_ai.client.inference.*`) are told besides the old one where
   `OTEL_SEMCONV_STABILITY_OPT_IN` has `gen_ai_latest_experimental`.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, NamedTuple

from pygate.telemetry.families import Attributes, Family, HistogramPoint, Point, server_address
from pygate.telemetry.llm import Llm, provider_name

MAX_SERIES = 2000
OPT_IN = "gen_ai_latest_experimental"

#: Seconds.
DURATION_BOUNDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
FIRST_TOKEN_BOUNDS = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
PER_TOKEN_BOUNDS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]
TOKEN_BOUNDS = [float(4**power) for power in range(14)]


class _Key(NamedTuple):
    operation: str
    provider: str
    model: str
    target: str
    endpoint: str
    error: str


#: What does not fit any more.
_OVERFLOW = _Key("", "", "", "", "", "")


class _Histogram:
    __slots__ = ("bounds", "buckets", "sum")

    def __init__(self, bounds: list[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.sum: int | float = 0

    def add(self, value: int | float) -> None:
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.sum += value


class _Series:
    """What calls with the same key came to."""

    __slots__ = ("duration", "first_chunk", "first_token", "input", "output", "parts", "per_token", "request")

    def __init__(self) -> None:
        self.duration = _Histogram(DURATION_BOUNDS)
        self.first_chunk = _Histogram(DURATION_BOUNDS)
        self.request = _Histogram(DURATION_BOUNDS)
        self.first_token = _Histogram(FIRST_TOKEN_BOUNDS)
        self.per_token = _Histogram(PER_TOKEN_BOUNDS)
        self.input = _Histogram(TOKEN_BOUNDS)
        self.output = _Histogram(TOKEN_BOUNDS)
        #: Tokens by the end of a counter's name and modality.
        self.parts: dict[tuple[str, str], int] = {}


class _Spent:
    """What calls of one team and project to one model came to."""

    __slots__ = ("estimated", "nano_usd", "unpriced")

    def __init__(self) -> None:
        self.nano_usd = 0
        self.unpriced = 0
        self.estimated = 0


class GenAi:
    """Written by the record thread, read by exporters."""

    def __init__(self) -> None:
        self._kinds: Mapping[str, str] = {}
        self._lock = threading.Lock()
        self._series: dict[_Key, _Series] = {}
        #: The series of facts as records have them: their names by convention are made once.
        self._met: dict[tuple[Any, ...], _Series] = {}
        self._spent: dict[tuple[str, ...], _Spent] = {}
        self._latest = OPT_IN in os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").replace(" ", "").split(",")

    @property
    def kinds(self) -> Mapping[str, str]:
        """The kind of every provider, by its name. Those that a configuration has lost are remembered."""
        return self._kinds

    def configure(self, kinds: Mapping[str, str]) -> None:
        """Goes on with these providers."""
        with self._lock:
            self._kinds = {**self._kinds, **kinds}
            self._met.clear()

    def count(self, told: Mapping[str, Any]) -> None:
        """Counts a call, as `AuditTail` tells it; others than finished calls of models are passed over."""
        llm = told.get("llm")
        if not isinstance(llm, dict) or not llm.get("target"):
            return
        get, asked = llm.get, told.get
        end, stream, first = get("end"), get("stream"), get("ttft_ns")
        entered, left, cost, estimated = get("input", 0), get("output", 0), get("nano_usd"), get("estimated")
        place = (get("provider", ""), get("model", ""), llm["target"], get("team", ""), get("project", ""))
        facts = (*place[:3], get("operation"), get("dialect"), end, asked("endpoint"), asked("code"), asked("status"))
        duration = asked("duration_ns", 0)
        # From the first byte of the request to when it was sent on; the intent is written then.
        began = asked("end_ns", 0) - duration
        before = min(max(asked("start_ns", began) - began, 0), duration)
        with self._lock:
            series = self._met.get(facts) or self._meet(facts, told, llm)
            series.request.add(duration / 1e9)
            series.duration.add((duration - before) / 1e9)
            if stream and first is not None:
                series.first_chunk.add(max(first - before, 0) / 1e9)
                if end == "clean":
                    series.first_token.add(first / 1e9)
                    if left > 1 and not estimated:
                        series.per_token.add(max(duration - first, 0) / (left - 1) / 1e9)
            if entered:
                series.input.add(entered)
            if left:
                series.output.add(left)
            if self._latest:
                _parts(series.parts, llm)
            spent = self._spent.get(place) or self._spent_by(place)
            if cost is None:
                spent.unpriced += 1
            else:
                spent.nano_usd += cost
            if estimated:
                spent.estimated += 1

    def _meet(self, facts: tuple[Any, ...], told: Mapping[str, Any], member: dict[str, Any]) -> _Series:
        llm = Llm.of(member)
        assert llm is not None  # `member` is a table
        error = llm.failure(told.get("code", ""), told.get("status", 0))
        provider, endpoint = llm.provider_name(self._kinds), told.get("endpoint", "")
        key = _Key(llm.operation_name, provider, llm.model, llm.target, endpoint, error)
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= MAX_SERIES:
                return self._series.setdefault(_OVERFLOW, _Series())
            series = self._series[key] = _Series()
        if len(self._met) >= 4 * MAX_SERIES:
            self._met.clear()
        self._met[facts] = series
        return series

    def _spent_by(self, place: tuple[str, ...]) -> _Spent:
        return self._spent.setdefault(place if len(self._spent) < MAX_SERIES else (), _Spent())

    # --- telling ---

    def families(self) -> list[Family]:
        """Every metric; none before the first call."""
        with self._lock:
            if not self._series:
                return []
            found = [
                self._histogram(
                    "gen_ai.client.operation.duration",
                    "Duration of calls to providers, from the request to the end of the answer.",
                    "s",
                    DURATION_BOUNDS,
                    {"": "duration"},
                    errors=True,
                ),
                self._histogram(
                    "gen_ai.client.operation.time_to_first_chunk",
                    "Time from the request to a provider to the first chunk of its stream.",
                    "s",
                    DURATION_BOUNDS,
                    {"": "first_chunk"},
                ),
                self._histogram(
                    "gen_ai.client.token.usage",
                    "Tokens of calls, by type.",
                    "{token}",
                    TOKEN_BOUNDS,
                    {"input": "input", "output": "output"},
                ),
                self._histogram(
                    "gen_ai.server.request.duration",
                    "Duration of calls of models as clients see it.",
                    "s",
                    DURATION_BOUNDS,
                    {"": "request"},
                    errors=True,
                ),
                self._histogram(
                    "gen_ai.server.time_to_first_token",
                    "Time to the first token of streams that ended cleanly, as clients see it.",
                    "s",
                    FIRST_TOKEN_BOUNDS,
                    {"": "first_token"},
                ),
                self._histogram(
                    "gen_ai.server.time_per_output_token",
                    "Time per token after the first, of streams that ended cleanly.",
                    "s",
                    PER_TOKEN_BOUNDS,
                    {"": "per_token"},
                ),
            ]
            if self._latest:
                found += self._newest()
            return [*found, *self._money()]

    def _histogram(
        self, name: str, text: str, unit: str, bounds: list[float], parts: Mapping[str, str], *, errors: bool = False
    ) -> Family:
        """One family of the histograms `parts` (by `gen_ai.token.type`) of every series."""
        merged: dict[tuple[tuple[str, Any], ...], HistogramPoint] = {}
        for key, series in self._series.items():
            for kind, slot in parts.items():
                histogram: _Histogram = getattr(series, slot)
                attributes = _attributes(key, errors)
                if kind:
                    attributes["gen_ai.token.type"] = kind
                if not any(histogram.buckets):
                    continue
                point = merged.setdefault(
                    tuple(attributes.items()), HistogramPoint(attributes, 0, [0] * len(histogram.buckets))
                )
                point.sum += histogram.sum
                point.buckets = [a + b for a, b in zip(point.buckets, histogram.buckets, strict=True)]
        return Family(name, text, unit, "histogram", bounds=bounds, histograms=list(merged.values()))

    def _newest(self) -> list[Family]:
        families = [
            self._histogram(
                f"gen_ai.client.inference.operation.{kind}_tokens",
                f"{kind.capitalize()} tokens of a call.",
                "{token}",
                TOKEN_BOUNDS,
                {"": kind},
            )
            for kind in ("input", "output")
        ]
        totals: dict[str, dict[tuple[tuple[str, Any], ...], Point]] = {name: {} for name in _COUNTERS}
        for key, series in self._series.items():
            for (name, modality), tokens in series.parts.items():
                attributes = _attributes(key, errors=False) | {"gen_ai.token.modality": modality}
                totals[name].setdefault(tuple(attributes.items()), Point(attributes, 0)).value += tokens
        for name, text in _COUNTERS.items():
            family = Family(f"gen_ai.client.inference.usage.{name}", text, "{token}", "counter")
            family.points = list(totals[name].values())
            families.append(family)
        return families

    def _money(self) -> list[Family]:
        cost = Family("pygate.ai.cost", "What calls of models cost, in USD.", "{USD}", "counter")
        unpriced = Family(
            "pygate.ai.unpriced",
            "Calls that are not in the cost: something they used has no price.",
            "{call}",
            "counter",
        )
        estimated = Family(
            "pygate.ai.estimated", "Calls whose usage the provider did not tell, or not all of it.", "{call}", "counter"
        )
        for key, spent in self._spent.items():
            attributes: Attributes = {"otel.metric.overflow": True}
            if key:
                attributes = {"gen_ai.provider.name": provider_name(key[0], self._kinds)}
                attributes |= {name: value for name, value in zip(_SPENT_BY, key, strict=True) if value}
            cost.points.append(Point(attributes, spent.nano_usd / 1e9))
            unpriced.points.append(Point(attributes, spent.unpriced))
            estimated.points.append(Point(attributes, spent.estimated))
        return [cost, unpriced, estimated]


_SPENT_BY = (
    "pygate.ai.provider",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "pygate.ai.team",
    "pygate.ai.project",
)
_COUNTERS = {
    "input_tokens": "Tokens of prompts, cached ones included.",
    "output_tokens": "Tokens of answers, reasoning included.",
    "cache_read.input_tokens": "Tokens of prompts read from a provider's cache.",
    "cache_write.input_tokens": "Tokens of prompts written to a provider's cache.",
    "reasoning.output_tokens": "Tokens of reasoning.",
}


def _parts(parts: dict[tuple[str, str], int], llm: dict[str, Any]) -> None:
    """Records tell sound apart; whether the rest is text or images is not known."""
    get = llm.get
    heard, said = get("audio_input", 0), get("audio_output", 0)
    told = (
        ("input_tokens", "audio", heard),
        ("input_tokens", "unknown", max(get("input", 0) - heard, 0)),
        ("output_tokens", "audio", said),
        ("output_tokens", "unknown", max(get("output", 0) - said, 0)),
        ("cache_read.input_tokens", "unknown", get("cached_read", 0)),
        ("cache_write.input_tokens", "unknown", get("cached_write", 0)),
        ("reasoning.output_tokens", "unknown", get("reasoning", 0)),
    )
    for name, modality, tokens in told:
        if tokens:
            parts[name, modality] = parts.get((name, modality), 0) + tokens


def _attributes(key: _Key, errors: bool) -> Attributes:
    if key == _OVERFLOW:
        return {"otel.metric.overflow": True}
    attributes: Attributes = {
        "gen_ai.operation.name": key.operation,
        "gen_ai.provider.name": key.provider,
        "gen_ai.request.model": key.model,
        "gen_ai.response.model": key.target,
    }
    if key.endpoint:
        attributes |= server_address(key.endpoint)
    if errors and key.error:
        attributes["error.type"] = key.error
    return attributes

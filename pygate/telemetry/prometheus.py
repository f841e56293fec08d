"""Metrics as text: the Prometheus exposition format 0.0.4 and OpenMetrics 1.0.

Names follow OpenTelemetry's rules for Prometheus: dots become `_`, the unit and `_total` are appended. Exemplars
exist in OpenMetrics only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pygate.telemetry.exemplars import Exemplar
from pygate.telemetry.families import Family, HistogramPoint

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_UNITS = {"s": "seconds", "By": "bytes", "1": "ratio"}
_NOT_NAME = re.compile(r"[^a-zA-Z0-9_]")


def accepts_openmetrics(accept: str) -> bool:
    """Whether an `Accept` field asks for OpenMetrics."""
    return any(part.partition(";")[0].strip() == "application/openmetrics-text" for part in accept.split(","))


def render(
    families: Iterable[Family], resource: Mapping[str, object] | None = None, openmetrics: bool = False
) -> bytes:
    """The exposition. `resource` becomes `target_info`."""
    lines: list[str] = []
    if resource:
        lines += _head("target", "target_info", "gauge", "info", "Who is measured.", "", openmetrics)
        lines.append(f"target_info{_labels(resource)} 1")
    for family in families:
        unit = _UNITS.get(family.unit, "")
        base = _NOT_NAME.sub("_", family.name)
        if unit and not base.endswith(f"_{unit}"):
            base = f"{base}_{unit}"
        counter = family.kind == "counter"
        sample = f"{base}_total" if counter else base
        kind = {"updown": "gauge"}.get(family.kind, family.kind)
        lines += _head(base, sample, kind, kind, family.description, unit, openmetrics)
        lines += [f"{sample}{_labels(point.attributes)} {_number(point.value)}" for point in family.points]
        for histogram in family.histograms:
            lines += _histogram(base, histogram, family.bounds, openmetrics)
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _head(base: str, sample: str, kind: str, open_kind: str, text: str, unit: str, openmetrics: bool) -> list[str]:
    name = base if openmetrics else sample
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    lines = [f"# TYPE {name} {open_kind if openmetrics else kind}"]
    if openmetrics and unit:
        lines.append(f"# UNIT {name} {unit}")
    if openmetrics:
        text = text.replace('"', r"\"")
    return [*lines, f"# HELP {name} {text}"]


def _histogram(base: str, point: HistogramPoint, bounds: list[float], openmetrics: bool) -> list[str]:
    labels = _pairs(point.attributes)
    lines = []
    total = 0
    for number, count in enumerate(point.buckets):
        total += count
        bound = _number(bounds[number]) if number < len(bounds) else "+Inf"
        line = f"{base}_bucket{_braces([*labels, _pair('le', bound)])} {total}"
        exemplar = point.exemplars.get(number)
        lines.append(line + _exemplar(exemplar) if openmetrics and exemplar else line)
    braces = _braces(labels)
    return [*lines, f"{base}_sum{braces} {_number(point.sum)}", f"{base}_count{braces} {total}"]


def _exemplar(exemplar: Exemplar) -> str:
    # OpenMetrics allows 128 characters for names and values together; these need 73.
    labels = {"trace_id": f"{exemplar.trace_id:032x}", "span_id": f"{exemplar.span_id:016x}"}
    return f" # {_labels(labels)} {_number(exemplar.value)} {exemplar.time_ns / 1e9:.3f}"


def _number(value: int | float) -> str:
    return repr(value)


def _labels(attributes: Mapping[str, object]) -> str:
    return _braces(_pairs(attributes))


def _pairs(attributes: Mapping[str, object]) -> list[str]:
    return [_pair(name, value) for name, value in attributes.items()]


def _pair(name: str, value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    name = _NOT_NAME.sub("_", name)
    return f'{"_" + name if name[:1].isdigit() else name}="{text}"'


def _braces(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""

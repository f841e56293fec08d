"""The list of metrics in the documentation is the list of metrics."""

from __future__ import annotations

from pathlib import Path

from tests.telemetry.conftest import Gateway

DOCUMENT = Path(__file__).parents[2] / "docs/telemetry.md"


def test_every_metric_and_label_value_is_documented(gateway: Gateway) -> None:
    text = DOCUMENT.read_text()
    families = gateway.telemetry({}).families()
    missing = [family.name for family in families if f"| `{family.name}` |" not in text]
    assert not missing
    keys = {key for family in families for point in family.points for key in point.attributes}
    assert not [key for key in keys if f"`{key}`" not in text]

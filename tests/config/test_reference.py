"""The reference pages of `docs/` are those that the code would write, and links between pages lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pygate.config import reference
from pygate.config.schema import schema

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")], key=lambda page: page.name)


@pytest.mark.parametrize(
    ("name", "written"), [("configuration.md", reference.configuration), ("errors.md", reference.errors)]
)
def test_the_checked_in_page_is_up_to_date(name: str, written: Callable[[], str]) -> None:
    assert (ROOT / "docs" / name).read_text() == written(), "run `make docs` and commit the page"


def test_every_table_of_the_schema_has_its_keys_on_the_page() -> None:
    page = reference.configuration()
    for name, node in schema()["$defs"].items():
        for key, item in node.get("properties", {}).items():
            row = re.search(rf"^\| \[?`{key}`.*\|$", page, re.MULTILINE)
            assert row, f"{name}.{key}"
            assert item.get("description") or "$ref" in item, f"{name}.{key} has no documentation"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert anchor in [slug(heading) for heading in headings], target


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

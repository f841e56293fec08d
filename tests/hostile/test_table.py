"""The hostile table as part of the suite: its quick run, its page, and that it can fail."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hostile import report, rows, session

PAGE = Path(__file__).parents[2] / "docs" / "security" / "hostile-table.md"


@pytest.fixture(scope="module")
def table() -> rows.Table:
    return rows.read()


def test_every_number_of_the_catalogue_has_a_row_or_a_reason(table: rows.Table) -> None:
    assert table.covered() == set(range(1, 91))


@pytest.mark.timeout(900)
def test_the_table_holds(table: rows.Table) -> None:
    result = asyncio.run(session.carry_out(table, quick=True))
    assert result.ok, "\n".join([*report.failures(result), result.line])
    assert result.runs >= len(result.rows)


@pytest.mark.timeout(300)
def test_a_row_that_expects_something_else_fails(table: rows.Table) -> None:
    known = {row.id: row for row in table.rows}
    wrong = [
        replace(known["cl-te"], expect=(200,)),
        replace(known["chunk-then-request"], upstream=(rows.Seen(body="x"), rows.Seen())),
        replace(known["pipeline-three"], upstream=2),
        replace(known["fold-value"], then="open"),
        replace(known["up-two-answers"], lacks=(), reuse=True),
        replace(known["up-short"], expect=(200,), then="closed"),
        replace(known["no-colon"], code="no-route"),
        replace(known["upgrade-200"], has=("x-pygate-error",)),
    ]
    wrong = [replace(row, pieces=("whole",), protocols=row.protocols[:1]) for row in wrong]
    result = asyncio.run(session.carry_out(rows.Table(wrong, [])))
    assert result.failed_rows == sorted(row.id for row in wrong), "\n".join(report.failures(result))


def test_a_row_with_a_key_nobody_knows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "10.toml").write_text('[[row]]\nid = "a"\nwhat = "b"\nsource = "c"\nexpects = 400\n')
    with pytest.raises(rows.TableError, match="expects"):
        rows.read(tmp_path)


def test_the_page_is_current(table: rows.Table) -> None:
    assert PAGE.read_text() == report.markdown(table), (
        "python -m tests.hostile --markdown docs/security/hostile-table.md"
    )

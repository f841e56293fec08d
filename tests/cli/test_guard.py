"""`pygate guard scan` as its user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pygate.cli.main import main


def test_scan_hides_every_finding_in_every_excerpt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "AKIA" + "IOSFODNN7EXAMPL3"
    text = tmp_path / "note.txt"
    text.write_text(f"my card 4111 1111 1111 1111 and key {key}\n")
    assert main(["guard", "scan", str(text), "--engine", "rust"]) == 0
    out = capsys.readouterr().out
    assert "findings=2" in out and "my card •" in out and "key AKIA•" in out
    assert "1111" not in out and key[4:12] not in out

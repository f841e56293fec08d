"""`pygate audit show` of calls of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from pygate._core import AuditLogWriter, encode_audit_intent, encode_audit_outcome
from pygate.cli.main import main
from tests.telemetry.conftest import extended

EXCHANGE = "01905d1a-2b3c-7d4e-8f00-000000000001"
TOLD: dict[str, Any] = {
    "operation": "chat",
    "model": "smart",
    "target": "claude-sonnet-5",
    "provider": "claude",
    "credential": "main",
    "stream": True,
    "input": 1200,
    "output": 300,
    "cached_read": 1000,
    "reasoning": 40,
    "estimated": False,
    "nano_usd": 3_500_001,
    "end": "clean",
    "loss": ["logit_bias", "messages[0].name"],
}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {},
            [
                "  model      smart → claude/claude-sonnet-5 (chat, streamed), credential main",
                "  usage      1,200 in, 300 out, 1,000 from cache, 40 reasoning, 0.003500001 USD, ended clean",
                "  lost       logit_bias, messages[0].name",
            ],
        ),
        (
            {"nano_usd": None, "estimated": True, "cached_read": 0, "reasoning": 0, "end": "cut", "loss": []},
            ["  usage      1,200 in, 300 out (estimated), no price known, ended cut"],
        ),
        (
            {"target": "", "provider": "", "model": "evil\x1b[31m", "stream": False},
            ["  model      evil\\x1b[31m (chat), no provider was called"],
        ),
    ],
)
def test_show_tells_who_served_a_call_and_what_it_came_to(
    changes: dict[str, Any], lines: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = AuditLogWriter(tmp_path)
    exchange = bytes.fromhex(EXCHANGE.replace("-", ""))
    writer.append(encode_audit_intent(exchange, 1_700_000_000_000_000_000, path="/v1/chat/completions"), 1, False)
    outcome = encode_audit_outcome(exchange, 1_700_000_000_002_000_000)
    writer.append(extended(outcome, "llm", orjson.dumps(TOLD | changes)), 1, True)
    writer.flush_and_stop()
    assert main(["audit", "show", EXCHANGE, "--dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert set(lines) <= set(out.splitlines()), out
    assert "\x1b" not in out

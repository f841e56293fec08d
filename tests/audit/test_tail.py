"""Following a log while it is written: everything once, over rotation, restarts and torn tails."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pygate import audit
from pygate._core import AuditLogWriter, encode_audit_intent, encode_audit_outcome


def exchange(n: int) -> bytes:
    return bytes.fromhex("01905d1a2b3c7d4e8f00") + n.to_bytes(6, "big")


def write(writer: AuditLogWriter, calls: range, *, sampled: bool = False, intents_only: bool = False) -> None:
    """Appends these calls and waits until they are on disk."""
    last: int | None = 0
    for n in calls:
        intent = encode_audit_intent(exchange(n), 1_000_000_000 + n, route=f"r{n % 3}", path=f"/{n}", sampled=sampled)
        last = writer.append(intent, 1, False)
        if not intents_only:
            last = writer.append(encode_audit_outcome(exchange(n), 2_000_000_000 + n, status=200 + n % 4), 1, True)
    if last == 0:
        return
    assert last is not None
    deadline = time.monotonic() + 10
    while writer.durable_seq() < last:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def number(call: dict[str, Any]) -> int:
    return int(call["exchange"].replace("-", "")[-12:], 16)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AuditLogWriter]:
    writer = AuditLogWriter(tmp_path, segment_size=4096, flush_interval=0.005)
    yield writer
    writer.flush_and_stop()


def test_records_come_once_and_in_order(tmp_path: Path, writer: AuditLogWriter) -> None:
    tail = audit.Tail(tmp_path, "begin")
    seen = []
    for step in range(10):
        write(writer, range(step * 20, step * 20 + 20))
        seen += tail.poll()
    assert len(list((tmp_path / "worker-0").glob("*.wal"))) > 3
    assert [r["sequence"] for r in seen] == list(range(1, 401))
    assert tail.poll() == [] and tail.damaged() == 0
    assert seen[0] == {
        "log": "worker-0",
        "sequence": 1,
        "kind": "intent",
        "exchange": "01905d1a-2b3c-7d4e-8f00-000000000000",
        "wall_ns": 1_000_000_000,
        "mono_ns": 0,
        "revision": "0" * 12,
        "trace_id": "0" * 32,
        "span_id": "0" * 16,
        "client_ip": "127.0.0.1",
        "entrypoint": "web",
        "route": "r0",
        "method": "GET",
        "path": "/0",
    }


def test_limit_is_kept_and_nothing_is_left_out(tmp_path: Path, writer: AuditLogWriter) -> None:
    write(writer, range(300))
    tail = audit.Tail(tmp_path, "begin")
    seen: list[int] = []
    while batch := tail.poll(limit=7):
        seen += (r["sequence"] for r in batch)
    assert seen == list(range(1, 601))


def test_calls_are_joined(tmp_path: Path, writer: AuditLogWriter) -> None:
    tail = audit.Tail(tmp_path, "begin")
    write(writer, range(3))
    calls = tail.calls()
    assert [number(c) for c in calls] == [0, 1, 2]
    call = calls[2]
    assert (call["start_ns"], call["end_ns"], call["status"], call["route"]) == (
        1_000_000_002,
        2_000_000_002,
        202,
        "r2",
    )
    assert call["complete"] is True and "kind" not in call


def test_only_what_comes_from_now_on(tmp_path: Path, writer: AuditLogWriter) -> None:
    write(writer, range(50))
    tail = audit.Tail(tmp_path)
    assert tail.calls() == []
    write(writer, range(50, 60))
    assert [number(c) for c in tail.calls()] == list(range(50, 60))


def test_marks_go_on_where_they_were_taken(tmp_path: Path, writer: AuditLogWriter) -> None:
    write(writer, range(30))
    first = audit.Tail(tmp_path, "begin")
    seen = [r["sequence"] for r in first.poll(limit=25)]
    write(writer, range(30, 60))
    second = audit.Tail(tmp_path, first.marks())
    while batch := second.poll():
        seen += (r["sequence"] for r in batch)
    assert seen == list(range(1, 121))


def test_sampled_calls_alone(tmp_path: Path, writer: AuditLogWriter) -> None:
    tail = audit.Tail(tmp_path, "begin", sampled_only=True)
    write(writer, range(5))
    write(writer, range(5, 8), sampled=True)
    assert [number(c) for c in tail.calls()] == [5, 6, 7]


def test_directories_that_come_later_are_found(tmp_path: Path) -> None:
    root = tmp_path / "later"
    tail = audit.Tail(root)
    assert tail.calls() == []
    for slot in range(3):
        writer = AuditLogWriter(root, slot=slot)
        write(writer, range(slot * 10, slot * 10 + 10))
        writer.flush_and_stop()
        assert [number(c) for c in tail.calls()] == list(range(slot * 10, slot * 10 + 10))
    assert set(tail.marks()) == {"worker-0", "worker-1", "worker-2"}


def test_a_call_whose_worker_died_is_told_without_outcome(tmp_path: Path) -> None:
    first = AuditLogWriter(tmp_path)
    tail = audit.Tail(tmp_path, "begin")
    write(first, range(2))
    write(first, range(2, 4), intents_only=True)
    first.flush_and_stop()
    assert [number(c) for c in tail.calls()] == [0, 1]
    second = AuditLogWriter(tmp_path)
    write(second, range(4, 5))
    second.flush_and_stop()
    calls = tail.calls()
    assert [(number(c), c["complete"]) for c in calls] == [(2, False), (3, False), (4, True)]
    assert "status" not in calls[0]


def test_many_calls_with_one_id_stay_cheap(tmp_path: Path, writer: AuditLogWriter) -> None:
    """A trusted client may send the same id over and over; reading must not become quadratic."""
    same = exchange(1)
    pair = encode_audit_intent(same, 1, route="same") + encode_audit_outcome(same, 2)
    for _ in range(60):
        writer.append(pair * 1000, 2000, False)
    writer.append(encode_audit_intent(same, 3), 1, False)
    writer.append(pair, 2, False)
    writer.flush_and_stop()
    tail = audit.Tail(tmp_path, "begin")
    began = time.process_time()
    calls = []
    while batch := tail.calls():
        calls += batch
    assert time.process_time() - began < 10
    assert [c["complete"] for c in calls] == [True] * 60_000 + [False, True]


def test_a_torn_tail_is_waited_for_at_every_cut(tmp_path: Path) -> None:
    writer = AuditLogWriter(tmp_path / "whole")
    write(writer, range(4))
    writer.flush_and_stop()
    whole = (tmp_path / "whole/worker-0/00000001.wal").read_bytes()
    for cut in range(0, len(whole), 13):
        log = tmp_path / "cut/worker-0"
        log.mkdir(parents=True)
        segment = log / "00000001.wal"
        segment.write_bytes(whole[:cut])
        tail = audit.Tail(tmp_path / "cut", "begin")
        seen = tail.poll()
        with segment.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(whole[cut:])
        seen += tail.poll()
        assert [r["sequence"] for r in seen] == list(range(1, 9)), f"cut at {cut}"
        assert tail.damaged() == 0
        shutil.rmtree(tmp_path / "cut")


def test_damage_is_skipped_and_counted(tmp_path: Path, writer: AuditLogWriter) -> None:
    for n in range(30):
        write(writer, range(n, n + 1))
    log = tmp_path / "worker-0"
    first = log / "00000001.wal"
    data = bytearray(first.read_bytes())
    data[data.index(b"PGFR", len(data) // 2) + 40] ^= 0xFF
    first.write_bytes(data)
    tail = audit.Tail(tmp_path, "begin")
    seen = [r["sequence"] for r in tail.poll()]
    assert tail.damaged() == 1
    assert seen == sorted(seen) and seen[0] == 1 and seen[-1] == 60 and 50 <= len(seen) < 60


@pytest.mark.parametrize("cut", [0, 5, 30])
def test_a_segment_that_was_begun_twice_is_read(tmp_path: Path, cut: int) -> None:
    """Killed while beginning a segment: the next writer makes another of the same name."""
    first = AuditLogWriter(tmp_path, flush_interval=0.005)
    write(first, range(20))
    first.flush_and_stop()
    tail = audit.Tail(tmp_path, "begin")
    seen = tail.poll()
    log = tmp_path / "worker-0"
    (log / "00000002.wal").write_bytes((log / "00000001.wal").read_bytes()[:cut])
    seen += tail.poll()
    # Small segments: by the next poll there are newer ones.
    second = AuditLogWriter(tmp_path, segment_size=2048, flush_interval=0.005)
    write(second, range(20, 120))
    second.flush_and_stop()
    while batch := tail.poll():
        seen += batch
    assert [r["sequence"] for r in seen] == list(range(1, 241))
    assert tail.damaged() == 0

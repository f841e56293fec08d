"""Every kind of tampering is found, with file, offset and sequence."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from pygate import audit
from pygate._core import AuditLogWriter
from pygate.cli.main import main
from tests.audit.test_tail import write

Tamper = Callable[[Path], object]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of some segments, in two runs of one worker."""
    root = tmp_path_factory.mktemp("original")
    for run in range(2):
        writer = AuditLogWriter(root, segment_size=2048, flush_interval=0.002)
        for n in range(run * 30, run * 30 + 30):
            write(writer, range(n, n + 1))
        writer.flush_and_stop()
    assert len(list((root / "worker-0").glob("*.wal"))) >= 5
    return root


@pytest.fixture
def log(original: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    shutil.copytree(original, tmp_path / "log")
    return tmp_path / "log/worker-0"


def segment(log: Path, index: int) -> Path:
    return log / f"{index:08}.wal"


def frames(data: bytes) -> list[int]:
    """Where each frame begins, and where the last ends."""
    at = 12 + int.from_bytes(data[8:12], "little") + 4
    starts = [at]
    while at < len(data):
        at += 64 + int.from_bytes(data[at + 8 : at + 12], "little")
        starts.append(at)
    return starts


def edit(path: Path, change: Callable[[bytes, list[int]], bytes]) -> None:
    data = path.read_bytes()
    path.write_bytes(change(data, frames(data)))


def change_a_status(log: Path) -> None:
    """With every checksum made right again, so that only the chain can tell."""

    def change(data: bytes, at: list[int]) -> bytes:
        frame = bytearray(data[at[2] : at[3]])
        frame[-33] ^= 1
        frame[24:28] = struct.pack("<I", zlib.crc32(frame[32:-32]))
        frame[28:32] = struct.pack("<I", zlib.crc32(frame[:28]))
        return data[: at[2]] + frame + data[at[3] :]

    edit(segment(log, 2), change)


def exchange_segments(log: Path) -> None:
    segment(log, 2).rename(log / "aside")
    segment(log, 3).rename(segment(log, 2))
    (log / "aside").rename(segment(log, 3))


TAMPERING: dict[str, tuple[Tamper, int, str]] = {
    "edit with checksums made right": (change_a_status, 2, "hash chain"),
    "edit": (
        lambda log: edit(segment(log, 2), lambda d, at: d[: at[1] + 50] + b"\xff" + d[at[1] + 51 :]),
        2,
        "checksum",
    ),
    "remove a frame": (lambda log: edit(segment(log, 2), lambda d, at: d[: at[1]] + d[at[2] :]), 2, "sequence"),
    "remove the first frame": (lambda log: edit(segment(log, 3), lambda d, at: d[: at[0]] + d[at[1] :]), 3, "sequence"),
    "repeat a frame": (lambda log: edit(segment(log, 2), lambda d, at: d[: at[1]] + d[at[0] :]), 2, "sequence"),
    "exchange two frames": (
        lambda log: edit(segment(log, 2), lambda d, at: d[: at[0]] + d[at[1] : at[2]] + d[at[0] : at[1]] + d[at[2] :]),
        2,
        "sequence",
    ),
    "insert bytes": (lambda log: edit(segment(log, 2), lambda d, at: d[: at[1]] + b"PGFR" + d[at[1] :]), 2, "checksum"),
    "cut off the end of a segment in the middle": (
        lambda log: edit(segment(log, 2), lambda d, at: d[: at[2] + 7]),
        2,
        "not the last segment",
    ),
    "cut off whole frames of a segment in the middle": (
        lambda log: edit(segment(log, 2), lambda d, at: d[: at[2]]),
        3,
        "chain value of the segment before",
    ),
    "bytes after the seal": (lambda log: edit(segment(log, 2), lambda d, at: d + d[at[0] : at[1]]), 2, "sealed"),
    "remove a segment": (lambda log: segment(log, 2).unlink(), 3, "segment 2 expected"),
    "remove the first segment": (lambda log: segment(log, 1).unlink(), 2, "segment 1 expected"),
    "exchange two segments": (exchange_segments, 2, "segment 2 expected, 3 found"),
    "edit a segment header": (
        lambda log: edit(segment(log, 2), lambda d, at: d.replace(b'"slot":0', b'"slot":1')),
        2,
        "checksum of the segment header",
    ),
    "empty a segment": (lambda log: segment(log, 2).write_bytes(b""), 2, "inside its header"),
    "another file in its place": (lambda log: segment(log, 2).write_bytes(b"#" * 999), 2, "not a segment"),
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_tampering_is_found(kind: str, log: Path) -> None:
    tamper, index, what = TAMPERING[kind]
    assert audit.verify(log.parent).ok
    tamper(log)
    summary = audit.verify(log.parent)
    assert not summary.ok
    first = summary.damaged[0]
    assert Path(first.file) == segment(log, index) and what in str(first.what), first


def test_offset_and_sequence_are_named(log: Path) -> None:
    path = segment(log, 2)
    starts = frames(path.read_bytes())
    whole = {s.file: s for s in _segments(log.parent)}[str(path)]
    edit(path, lambda d, at: d[: at[3] + 40] + bytes([d[at[3] + 40] ^ 1]) + d[at[3] + 41 :])
    damaged = audit.verify(log.parent).damaged[0]
    assert damaged.offset == starts[3]
    assert damaged.next_sequence == whole.first_sequence + damaged.records


def _segments(root: Path) -> list[audit.Segment]:
    from pygate._core import AuditVerifier

    verifier = AuditVerifier(root)
    return [audit.Segment(**step) for step in iter(verifier.step, None) if step is not None]


def test_any_flipped_byte_is_found(log: Path) -> None:
    rng = random.Random(7)
    paths = sorted(log.glob("*.wal"))
    for _ in range(300):
        path = rng.choice(paths)
        data = bytearray(path.read_bytes())
        at = rng.randrange(len(data))
        data[at] ^= rng.randrange(1, 256)
        before = path.read_bytes()
        path.write_bytes(data)
        summary = audit.verify(log.parent)
        # The length of the very last segment's header may be made to point past the end of the file: torn.
        assert not summary.ok or (path == paths[-1] and 8 <= at < 12 and summary.torn), f"{path.name} at {at}"
        path.write_bytes(before)
    assert audit.verify(log.parent).ok


def test_a_torn_tail_is_no_damage_and_is_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = sorted(log.glob("*.wal"))[-1]
    edit(last, lambda d, at: d[: at[-2] + 20])
    assert main(["audit", "verify", "--dir", str(log.parent)]) == 0
    out = capsys.readouterr().out
    assert f"torn: {last} ends inside a frame" in out and out.splitlines()[-1].startswith("ok=yes logs=1 ")
    # The next writer sets it aside and goes on.
    writer = AuditLogWriter(log.parent)
    write(writer, range(100, 101))
    writer.flush_and_stop()
    summary = audit.verify(log.parent)
    assert summary.ok and not summary.torn and len(summary.recovered) == 1
    assert len(list(log.glob("*.torn-*"))) == 1


def test_pruned_logs_are_accepted_when_asked(log: Path) -> None:
    segment(log, 1).unlink()
    assert not audit.verify(log.parent).ok
    assert audit.verify(log.parent, pruned=True).ok
    segment(log, 3).unlink()
    assert not audit.verify(log.parent, pruned=True).ok


def test_verify_says_where_and_fails(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", "--dir", str(log.parent), "--json"]) == 0
    whole = orjson.loads(capsys.readouterr().out)
    assert whole["ok"] and whole["records"] == 120 and len(whole["heads"]["worker-0"]["chain"]) == 64
    change_a_status(log)
    assert main(["audit", "verify", "--dir", str(log.parent)]) == 1
    out = capsys.readouterr().out
    assert f"damaged: {segment(log, 2)} at offset " in out and "\x1b[" not in out
    assert out.splitlines()[-1].startswith("ok=no logs=1 ") and "damaged=1" in out
    assert main(["audit", "verify", "--dir", str(log.parent), "--json"]) == 1
    assert orjson.loads(capsys.readouterr().out)["damaged"][0]["state"] == "damaged"


def test_list_filters(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def listed(*arguments: str) -> list[audit.Call]:
        assert main(["audit", "list", "--dir", str(log.parent), "--json", *arguments]) == 0
        return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert len(listed()) == 50
    assert [c["path"] for c in listed("-n", "3")] == ["/57", "/58", "/59"]
    assert {c["route"] for c in listed("--route", "r1")} == {"r1"}
    assert {c["status"] for c in listed("--status", "201-202")} == {201, 202}
    assert len(listed("-n", "99", "--status", "2xx")) == 60
    assert listed("--status", "unknown") == listed("--status", "5xx") == listed("--since", "1h") == []


def test_show_tells_the_story(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exchange = "01905d1a-2b3c-7d4e-8f00-000000000007"
    assert main(["audit", "show", exchange, "--dir", str(log.parent)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("GET http:///7\n") and "outcome    203" in out and "\x1b[" not in out
    assert main(["audit", "show", exchange[:-1] + "f", "--dir", str(log.parent)]) == 0
    assert main(["audit", "show", exchange[:-4] + "ffff", "--dir", str(log.parent)]) == 1
    assert "no call" in capsys.readouterr().err


def test_a_call_without_outcome_is_unknown_never_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = AuditLogWriter(tmp_path)
    write(writer, range(1, 2), intents_only=True)
    writer.flush_and_stop()
    assert main(["audit", "show", "01905d1a-2b3c-7d4e-8f00-000000000001", "--dir", str(tmp_path)]) == 0
    assert "outcome    unknown" in capsys.readouterr().out
    assert len(audit.query(tmp_path, status=audit.Status(unknown=True))) == 1


def test_follow_prints_calls_as_they_end(tmp_path: Path) -> None:
    writer = AuditLogWriter(tmp_path, flush_interval=0.002)
    write(writer, range(2))
    with subprocess.Popen(
        [sys.executable, "-m", "pygate.cli.main", "audit", "list", "--dir", str(tmp_path), "--json", "--follow"],
        stdout=subprocess.PIPE,
    ) as follower:
        assert follower.stdout is not None
        seen = [orjson.loads(follower.stdout.readline())["path"] for _ in range(2)]
        time.sleep(0.1)
        write(writer, range(2, 5))
        seen += [orjson.loads(follower.stdout.readline())["path"] for _ in range(3)]
        follower.terminate()
    writer.flush_and_stop()
    assert seen == ["/0", "/1", "/2", "/3", "/4"]


@pytest.mark.parametrize("text", ["", "5x", "abc", "600-500", "-5", "1-2-3", "5xxx"])
def test_wrong_statuses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected 404, 5xx"):
        audit.parse_status(text)


def test_missing_directory_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "list", "--dir", str(tmp_path / "none")]) == 1
    assert "--dir DIR or -c CONFIG" in capsys.readouterr().err

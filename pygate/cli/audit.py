"""`pygate audit list | show ID | verify`: who called what, what came of it, and whether the log is whole."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from pygate import audit
from pygate.ai import money
from pygate.audit.grpc import SERVER_ERRORS, STATUSES
from pygate.cli.terminal import print_json, print_problems, style
from pygate.config import ConfigError, load
from pygate.config.problem import Style

DEFAULT_DIR = "run/audit"
"""`audit.dir` when the configuration does not say."""

POLL_SECONDS = 0.2


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "audit",
        help="read and verify the audit log",
        description="Reads the audit log of all workers, running or not, and proves that it was not changed.",
        epilog="examples:\n"
        "  pygate audit list --since 1h --status 5xx\n"
        "  pygate audit list --follow --route orders\n"
        "  pygate audit show 01905d1a-2b3c-7d4e-8f00-112233445566\n"
        "  pygate audit verify -c pygate.toml && echo whole",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    place = argparse.ArgumentParser(add_help=False)
    where = place.add_mutually_exclusive_group()
    where.add_argument("--dir", metavar="DIR", help=f"directory of the log (default: {DEFAULT_DIR})")
    where.add_argument("-c", "--config", metavar="CONFIG", help="take the directory from this configuration")
    place.add_argument("--json", action="store_true", help="print JSON (list: one call per line)")
    verbs = parser.add_subparsers(dest="audit_verb", metavar="list|show|verify", required=True)

    listing = verbs.add_parser("list", parents=[place], help="list calls, youngest last", description="Lists calls.")
    listing.add_argument("--since", metavar="TIME", type=_seconds, help="only calls of the last 30s, 15m, 1h, 7d")
    listing.add_argument("--status", metavar="S", type=_status, help="404, 5xx, 500-503, none or unknown")
    listing.add_argument("--route", metavar="R", help="only calls of this route")
    listing.add_argument("-n", dest="limit", metavar="N", type=_count, default=50, help="at most N (default: 50)")
    listing.add_argument("--follow", action="store_true", help="then print calls as they end, until interrupted")

    showing = verbs.add_parser("show", parents=[place], help="tell one call's story", description="Shows one call.")
    showing.add_argument("id", metavar="ID", type=_uuid, help="exchange id, as in x-request-id")

    verifying = verbs.add_parser(
        "verify",
        parents=[place],
        help="verify every checksum, sequence and chain value",
        description="Verifies the log. Exit code 0: whole, 1: damaged or unreadable.",
    )
    verifying.add_argument(
        "--pruned", action="store_true", help="accept logs whose first segments were archived or expired"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    try:
        directory = _directory(args)
        if not directory.is_dir():
            raise NotADirectoryError(
                f"no audit log at {directory}; say where it lies with --dir DIR or -c CONFIG (audit.dir)"
            )
        match args.audit_verb:
            case "list":
                return _list(args, directory)
            case "show":
                return _show(args, directory)
            case _:
                return _verify(args, directory)
    except ConfigError as error:
        print_problems(error.problems, {}, sys.stderr)
        return 2
    except BrokenPipeError:
        raise  # the reader of our output left: `main` knows
    except OSError as error:
        print(f"{style(sys.stderr).red('error')}: {error}", file=sys.stderr)
        return 1


def _directory(args: argparse.Namespace) -> Path:
    if args.config is None:
        return Path(args.dir or DEFAULT_DIR)
    loaded = load(args.config).ensure()
    return Path(loaded.value.get("audit", {}).get("dir", DEFAULT_DIR))


# ---- list -----------------------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace, directory: Path) -> int:
    # The tail begins before the query reads, so that no call falls between; those told twice are left out.
    tail = audit.Tail(directory) if args.follow else None
    calls = audit.query(directory, limit=args.limit, since=args.since, status=args.status, route=args.route)
    paint = style(sys.stdout)
    if not args.json and (calls or tail):
        print(paint.bold(f"{'TIME (UTC)':23}  {'STATUS':>7}  {'MS':>9}  {'METHOD':7} {'ROUTE':16} {'PATH':40} ID"))
    told = set()
    for call in calls:
        told.add((call["log"], call["sequence"]))
        _print_row(call, args.json, paint)
    if tail is not None:
        for call in _follow(tail, directory, args):
            if (call["log"], call["sequence"]) not in told:
                _print_row(call, args.json, paint)
    elif not calls and not args.json:
        print("no call matches", file=sys.stderr)
    return 0


def _follow(tail: audit.Tail, directory: Path, args: argparse.Namespace) -> Iterator[audit.Call]:
    while True:
        sys.stdout.flush()
        calls = tail.calls()
        for call in calls:
            if "start_ns" not in call and "client_ip" not in call:
                # Its intent was written before we began to follow.
                call = next(iter(audit.find(directory, UUID(call["exchange"]))), call)
            wanted = args.status is None or args.status.matches(call)
            if wanted and args.route in (None, call.get("route")):
                yield call
        if not calls:
            time.sleep(POLL_SECONDS)


def _print_row(call: audit.Call, as_json: bool, paint: Style) -> None:
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(call, default=_jsonable, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
        return
    milliseconds = f"{call.get('duration_ns', 0) / 1e6:9.2f}" if call["complete"] else " " * 9
    print(
        f"{_clock(_began_ns(call))}  {_painted_status(call, paint, 7)}  {milliseconds}  "
        f"{_plain(call.get('method', '-')):7} {_plain(call.get('route', '-')):16} "
        f"{_plain(call.get('path', '-')):40} {paint.dim(call['exchange'])}"
    )


# ---- show -----------------------------------------------------------------------------------------------------------


def _show(args: argparse.Namespace, directory: Path) -> int:
    calls = audit.find(directory, args.id)
    if args.json:
        sys.stdout.buffer.write(orjson.dumps(calls, default=_jsonable, option=orjson.OPT_INDENT_2) + b"\n")
    paint = style(sys.stdout)
    if not calls:
        print(f"{style(sys.stderr).red('error')}: no call {args.id} in {directory}", file=sys.stderr)
        return 1
    if not args.json:
        print("\n\n".join("\n".join(_story(call, paint)) for call in calls))
    return 0


def _story(call: audit.Call, paint: Style) -> Iterator[str]:
    def line(name: str, text: object) -> str:
        return f"  {paint.dim(f'{name:10}')} {text}"

    known = {key: _plain(str(value)) for key, value in call.items()}
    asked = f"{known.get('method', '?')} {'https' if call.get('https') else 'http'}://{known.get('host', '')}"
    if "start_ns" in call:
        yield paint.bold(f"{asked}{known.get('path', '')}")
    else:
        yield paint.bold("a request that never became a call (it was malformed or never complete)")
    yield line("id", call["exchange"])
    yield line("asked", _clock(_began_ns(call)) + " UTC")
    if "client_ip" in call:
        address = f"[{call['client_ip']}]" if ":" in call["client_ip"] else call["client_ip"]
        yield line("client", address + (f":{call['client_port']}" if "client_port" in call else ""))
    for name, key in (("agent", "user_agent"), ("identity", "identity"), ("entrypoint", "entrypoint")):
        if key in call:
            yield line(name, known[key])
    if "route" in call:
        service = f" → service {known['service']}" if "service" in call else ""
        yield line("route", f"{known['route']}{service}")
    if "revision" in call:
        yield line("revision", call["revision"])
    if call.get("trace_id", "").strip("0"):
        parent = f", parent {call['parent_span_id']}" if "parent_span_id" in call else ", begun here"
        sampled = "sampled" if call.get("sampled") else "not sampled"
        yield line("trace", f"{call['trace_id']} span {call['span_id']}{parent}, {sampled}")
    yield from _ending(call, known, paint, line)
    if "log" in call:
        yield line("recorded", paint.dim(f"{call['log']}, sequence {call['sequence']}"))


def _ending(call: audit.Call, known: dict[str, str], paint: Style, line: Callable[[str, object], str]) -> Iterator[str]:
    if not call["complete"]:
        yield line("outcome", paint.yellow("unknown") + ": none was recorded; it still runs, or its worker died")
        return
    cut = paint.yellow(", cut after its head had been sent") if call.get("truncated") else ""
    by = f" by the gateway: {paint.bold(known['code'])}" if "code" in call else ""
    grpc = f" {call['grpc_status']}" if "grpc_status" in call else ""
    yield line("outcome", f"{_painted_status(call, paint)}{grpc}{by}{cut}")
    attempts = call.get("attempts", 0)
    if "endpoint" in call:
        yield line("endpoint", known["endpoint"] + (f" after {attempts} attempts" if attempts > 1 else ""))
    elif attempts == 0:
        yield line("endpoint", "none was called")
    took = f"{call.get('duration_ns', 0) / 1e6:.2f} ms"
    if "upstream_ns" in call:
        took += f", of which {call['upstream_ns'] / 1e6:.2f} ms until the upstream's first byte"
    yield line("took", took)
    yield line("bytes", f"{call.get('request_bytes', 0)} in, {call.get('response_bytes', 0)} out")
    if isinstance(told := call.get("llm"), dict):
        yield from _model(told, paint, line)
    for found in call.get("findings", ()):
        done = f"{found['action']} (shadow: not acted on)" if found["shadow"] else found["action"]
        where = f"{'response' if found['response'] else 'request'} bytes {found['start']}–{found['end']}"
        yield line("finding", f"{paint.yellow(_plain(found['rule']))} {done}, {where}")


def _model(told: dict[str, Any], paint: Style, line: Callable[[str, object], str]) -> Iterator[str]:
    """A call of a model: who served it, and what it came to."""
    name = _plain(str(told.get("model") or "none named"))
    how = told.get("operation", "") + (", streamed" if told.get("stream") else "")
    if not told.get("target"):
        yield line("model", f"{name} ({how}), no provider was called")
        return
    credential = f", credential {_plain(told['credential'])}" if told.get("credential") else ""
    yield line("model", f"{name} → {_plain(told['provider'])}/{_plain(told['target'])} ({how}){credential}")
    parts = {"cached_read": "from cache", "cached_write": "into cache", "reasoning": "reasoning"}
    counts = [f"{told.get('input', 0):,} in", f"{told.get('output', 0):,} out"]
    counts += [f"{told[part]:,} {text}" for part, text in parts.items() if told.get(part)]
    nano = told.get("nano_usd")
    cost = paint.yellow("no price known") if nano is None else f"{money.usd(nano)} USD"
    guessed = " (estimated)" if told.get("estimated") else ""
    end = told.get("end", "")
    shown = end if end == "clean" else paint.yellow(end)
    yield line("usage", f"{', '.join(counts)}{guessed}, {cost}, ended {shown}")
    if told.get("loss"):
        yield line("lost", ", ".join(_plain(str(path)) for path in told["loss"]))


# ---- verify ---------------------------------------------------------------------------------------------------------


def _verify(args: argparse.Namespace, directory: Path) -> int:
    if sys.stderr.isatty() and not args.json:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        from rich.console import Console

        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("verify", total=None)
            summary = audit.verify(
                directory,
                pruned=args.pruned,
                progress=lambda done, every: bar.update(task, completed=done, total=every),
            )
    else:
        summary = audit.verify(directory, pruned=args.pruned)
    if args.json:
        print_json(summary.as_dict())
        return 0 if summary.ok else 1
    paint = style(sys.stdout)
    for segment in summary.damaged:
        print(
            f"{paint.red('damaged')}: {segment.file} at offset {segment.offset}, "
            f"sequence {segment.next_sequence}: {segment.what}"
        )
    for segment in summary.torn:
        print(
            f"{paint.yellow('torn')}: {segment.file} ends inside a frame at offset {segment.offset}, after sequence "
            f"{segment.next_sequence - 1}: its writer died (or is writing now); nothing acknowledged is in there"
        )
    for segment in summary.recovered:
        print(f"{paint.dim('repaired')}: before {segment.file}: {segment.recovered}")
    for log, head in summary.heads.items():
        print(f"{paint.dim('head')}: {log} sequence {head['sequence']} chain {head['chain'] or 'unknown'}")
    verdict = paint.green("yes") if summary.ok else paint.red("no")
    print(
        f"ok={verdict} logs={summary.logs} segments={summary.segments} frames={summary.frames} "
        f"records={summary.records} bytes={summary.bytes} damaged={len(summary.damaged)} torn={len(summary.torn)}"
    )
    return 0 if summary.ok else 1


# ---- words ----------------------------------------------------------------------------------------------------------


def _painted_status(call: audit.Call, paint: Style, width: int = 0) -> str:
    if not call["complete"]:
        return paint.yellow(f"{'unknown':>{width}}")
    status, grpc = call.get("status", 0), call.get("grpc_status", "")
    number = f"grpc {STATUSES.index(grpc)}" if grpc in STATUSES else ""
    text = f"{number or status or 'none':>{width}}"
    if status >= 500 or status == 0 or grpc in SERVER_ERRORS:
        return paint.red(text)
    if grpc not in ("", "OK"):
        return paint.yellow(text)
    return paint.yellow(text) if status >= 400 else paint.green(text)


def _began_ns(call: audit.Call) -> int:
    return int(call.get("start_ns") or call.get("end_ns", 0) - call.get("duration_ns", 0))


def _clock(ns: int) -> str:
    at = datetime.fromtimestamp(ns // 1_000_000 / 1000, UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03}"


def _plain(text: str) -> str:
    """What peers sent, without control characters: a log must not drive the terminal that shows it."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _jsonable(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(type(value).__name__)


def _seconds(text: str) -> float:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    unit = text.lstrip("0123456789.")
    number = text[: len(text) - len(unit)]
    if unit not in units or not number.replace(".", "", 1).isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: expected one such as 30s, 15m, 1h or 7d")
    return float(number) * units[unit]


def _status(text: str) -> audit.Status:
    try:
        return audit.parse_status(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an exchange id: expected one such as 01905d1a-2b3c-7d4e-8f00-112233445566"
        ) from None

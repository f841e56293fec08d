"""`pygate cert`: every certificate, how long it holds and who uses it; a new one now."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pygate.cli.terminal import print_json, print_problems, print_warnings, style
from pygate.config import Loaded, load
from pygate.config.problem import Style

if TYPE_CHECKING:
    from pygate.control.certificates.inventory import Item

#: Days left below which an expiry is shown as a worry, and as an alarm.
WORRY = 21.0
ALARM = 7.0
DAY = 86400.0


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "cert",
        help="list certificates and who uses them",
        description="Shows the certificates a configuration names. Exit code 0: all can be used, 1: some cannot,"
        " 2: wrong usage or configuration.",
        epilog="examples:\n"
        "  pygate cert list\n"
        "  pygate cert list -c /etc/pygate --run-dir /run/pygate\n"
        "  pygate cert list --json | jq '.certificates[] | select(.days_left < 21) | .name'\n"
        "  pygate cert renew shop",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="cert_verb", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="list every certificate with names, expiry, issuer, OCSP and use")
    renew = verbs.add_parser("renew", help="have the running gateway obtain an ACME certificate now")
    renew.add_argument("name", help="name of a certificate with `acme`")
    for verb in (listing, renew):
        verb.add_argument("-c", "--config", default="pygate.toml", help="file or directory (default: %(default)s)")
    listing.add_argument("--run-dir", help="the gateway's run directory (default: $RUNTIME_DIRECTORY or ./run)")
    listing.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run(args: argparse.Namespace) -> int:
    loaded = load(args.config)
    if loaded.problems:
        if getattr(args, "json", False):
            print_json({"problems": [p.as_dict() for p in loaded.problems]})
        else:
            print_problems(loaded.problems, loaded.texts, sys.stderr)
        return 2
    return _list(args, loaded) if args.cert_verb == "list" else _renew(args, loaded)


def _list(args: argparse.Namespace, loaded: Loaded) -> int:
    from pygate.control.certificates import inventory
    from pygate.control.rundir import default_run_dir

    run_dir = Path(args.run_dir) if args.run_dir else default_run_dir()
    gathered, items = inventory.load(loaded.value, loaded.base, run_dir)
    for problem in [*gathered.problems, *gathered.warnings]:
        loaded.locate(problem)
    now = time.time()
    if args.json:
        print_json(
            {
                "certificates": [item.as_dict(now) for item in items],
                "problems": [p.as_dict() for p in gathered.problems],
                "warnings": [w.as_dict() for w in gathered.warnings],
            }
        )
        return 1 if gathered.problems else 0
    paint = style(sys.stdout)
    if not items:
        print("No certificates in this configuration. docs/tls.md says how to add one: from files or by ACME.")
    for item in items:
        print("\n".join(_lines(item, now, paint)))
    if items:
        soon = sum(1 for i in items if i.facts and i.facts.not_after - now < WORRY * DAY)
        missing = sum(1 for i in items if i.facts is None)
        print(f"certificates={len(items)} expiring_within_{WORRY:.0f}_days={soon} missing={missing}")
    print_warnings(gathered.warnings, loaded.texts, sys.stderr)
    if gathered.problems:
        print_problems(gathered.problems, loaded.texts, sys.stderr)
    return 1 if gathered.problems else 0


def _renew(args: argparse.Namespace, loaded: Loaded) -> int:
    from pygate.config.schema import nearest
    from pygate.control.certificates import storage

    paint = style(sys.stderr)
    table = loaded.value.get("certificates", {}).get(args.name)
    if table is None or not table.get("acme"):
        known = [name for name, t in loaded.value.get("certificates", {}).items() if t.get("acme")]
        near = nearest(args.name, known)
        hint = f"; did you mean `{near}`?" if near else ""
        print(f"{paint.red('error')}: no certificate `{args.name}` that ACME obtains{hint}", file=sys.stderr)
        return 2
    try:
        storage.of(loaded.value, table["acme"]).want(args.name)
    except (OSError, KeyError) as e:
        print(f"{paint.red('error')}: the account's directory cannot be written: {e}", file=sys.stderr)
        return 1
    print(f"asked: the running gateway obtains `{args.name}` within a minute; its log says how that went")
    return 0


def _lines(item: Item, now: float, paint: Style) -> list[str]:
    out = [f"{paint.bold(item.name)}  {paint.dim(item.source)}"]
    if facts := item.facts:
        out += [
            f"  names    {', '.join(facts.sans) or paint.dim('none')}",
            f"  expires  {_expiry(facts.not_after, now, paint)}",
            f"  issuer   {facts.issuer}   key {facts.key}",
        ]
    if item.error:
        out.append(f"  {'problem' if item.facts else 'missing'}  {paint.red(item.error)}")
    if item.kind == "acme":
        when = f"next {'attempt' if item.error else 'renewal'} {_day(item.next)}" if item.next else "obtained at once"
        out.append(f"  acme     {when}")
    if item.ocsp:
        out.append(
            f"  ocsp     {paint.green('good, stapled') if item.ocsp == 'good' else paint.yellow('nothing stapled')}"
        )
    out.append(f"  used by  {_used(item) or paint.dim('nobody')}")
    return [*out, ""]


def _used(item: Item) -> str:
    usage = item.usage
    parts = []
    for name in usage.entrypoints:
        parts.append(f"entrypoint {name}" + (" (default)" if name in usage.default_of else ""))
    if usage.hosts:
        parts.append(f"host{'s' if len(usage.hosts) > 1 else ''} {', '.join(usage.hosts)}")
    parts += [f"service {name}" for name in usage.services]
    return "; ".join(parts)


def _expiry(when: float, now: float, paint: Style) -> str:
    days = (when - now) / DAY
    if days < 0:
        return paint.red(f"{_day(when)}, {-days:.0f} days ago")
    text = f"{_day(when)}, {days:.0f} days left"
    return paint.red(text) if days < ALARM else paint.yellow(text) if days < WORRY else paint.green(text)


def _day(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M} UTC"

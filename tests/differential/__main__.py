"""The same requests through pygate and its peers to different origins: does any see more, or others, than were meant?

`python -m tests.differential [--quick] [--json FILE] [--report FILE] [--proxies a,b] [--origins a,b] [--entry NAME]`

Ends with 1 when pygate and an origin disagree, with 2 when the run could not be completed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.differential import corpus, report
from tests.differential.run import Result, run
from tests.differential.servers import ORIGINS, PROXIES, StartError, versions

#: Seconds that a run may take.
WHOLE, QUICK = 230.0, 55.0
QUICK_ORIGINS = "uvicorn,waitress,gunicorn"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a third of the corpus and three origins, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page for docs/security")
    parser.add_argument("--proxies", default=",".join(PROXIES), metavar="NAMES")
    parser.add_argument("--origins", default="", metavar="NAMES")
    parser.add_argument("--entry", default="", metavar="NAME", help="only entries with this in their name")
    options = parser.parse_args()
    entries = corpus.quick() if options.quick else corpus.corpus()
    entries = [entry for entry in entries if options.entry in entry.name]
    proxies = options.proxies.split(",")
    origins = (options.origins or (QUICK_ORIGINS if options.quick else ",".join(ORIGINS))).split(",")
    if unknown := [name for name in [*proxies, *origins] if name not in (*PROXIES, *ORIGINS)]:
        parser.error(f"there is no {unknown[0]}: proxies are {', '.join(PROXIES)}, origins {', '.join(ORIGINS)}")
    # Asked to end, it ends what it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    try:
        result = run(entries, proxies, origins, QUICK if options.quick else WHOLE, say=_say)
    except (StartError, RuntimeError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    told = versions([*proxies, *origins])
    if options.json:
        report.write_json(result, told, options.json)
    if options.report:
        report.write_report(result, told, options.report)
    print(_table(result, [*proxies, "direct"]))
    wrong = report.disagreements(result.pygate)
    for finding in wrong:
        print(f"{finding.kind}: pygate → {finding.origin}: {finding.entry}: {finding.what}")
    verdict = "ok" if not wrong and result.complete else "failed"
    print(
        f"differential={verdict} entries={len(entries)} proxies={len(proxies)} origins={len(origins)} "
        f"disagreements={len(wrong)} complete={str(result.complete).lower()} seconds={result.seconds:.0f}"
    )
    return 1 if wrong else 0 if result.complete else 2


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _table(result: Result, proxies: list[str]) -> str:
    numbers = report.summary(result)
    columns = ("served", "refused", "closed", "silent")
    kinds = ("smuggled", "crossed", "differs", "stricter")
    lines = ["proxy     " + "".join(f"{name:>10}" for name in columns + kinds)]
    for proxy in proxies:
        cells = [numbers["counts"][proxy].get(name, 0) for name in columns]
        cells += [numbers["entries_by_kind"][proxy].get(name, 0) for name in kinds]
        lines.append(f"{proxy:<10}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.ai.sdks`: clients that others wrote, feature by feature, with models of every provider.

- Without arguments it starts a simulator of the providers, a gateway before it and makes a virtual key.
- `--gateway URL` points all clients at a gateway that runs; its providers lie under `--simulator URL`, and it knows the
  models `fast`, `claude`, `gemini`, `nova` and `embed`.
- `--direct` points each client at the simulator of its own dialect's provider: what fails there is wrong in it.

Exit codes: 0 all features work, 1 one does not, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.ai import by_vercel, feature
from tests.ai.behind import behind
from tests.ai.feature import LABELS, NAMES, Found, Place, Suite
from tests.providers.running import Simulator

#: Client → module and name of its suite, imported when it is wanted: some take seconds.
SUITES = {
    "openai": ("by_openai", "SUITE"),
    "anthropic": ("by_anthropic", "SUITE"),
    "google-genai": ("by_google", "SUITE"),
    "langchain-openai": ("by_langchain", "OPENAI"),
    "langchain-anthropic": ("by_langchain", "ANTHROPIC"),
    "litellm openai": ("by_litellm", "OPENAI"),
    "litellm anthropic": ("by_litellm", "ANTHROPIC"),
    **{name: ("by_vercel", name) for name in by_vercel.CLIENTS},
}


def main() -> int:
    args, wanted, labels = arguments()
    progress = Console(stderr=True)
    found: list[Found] = []
    began = time.monotonic()
    with ExitStack() as stack:
        simulator = stack.enter_context(Simulator(url=args.simulator))
        simulator.reset()
        if args.direct:
            place = direct(simulator)
        elif args.gateway:
            place = at(args.gateway, args.key, simulator, args.settle)
        else:
            gateway = stack.enter_context(behind(simulator.url))
            place = at(gateway.url, gateway.key("sdks")[1], simulator, args.settle)
        for name in wanted:
            progress.print(name, style="dim")
            found += run(name, place, labels)
    show(found, Console(width=None if sys.stdout.isatty() else 260))
    failed = sum(not one.ok for one in found)
    summary = {
        "clients": len({one.client for one in found}),
        "features": len({one.feature for one in found}),
        "passed": len(found) - failed,
        "failed": failed,
    }
    if args.json:
        told = {"summary": summary, "checks": [asdict(one) for one in found]}
        args.json.write_text(json.dumps(told, indent=2) + "\n")
    numbers = " ".join(f"{name}={value}" for name, value in summary.items())
    print(f"sdks={'failed' if failed or not found else 'ok'} {numbers} seconds={time.monotonic() - began:.0f}")
    return 1 if failed or not found else 0


def arguments() -> tuple[argparse.Namespace, list[str], list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m tests.ai.sdks",
        description="Clients that others wrote, feature by feature. Exit code 1: a feature does not work.",
        epilog="examples:\n  python -m tests.ai.sdks --json sdks.json\n"
        "  python -m tests.ai.sdks --direct --only openai\n"
        "  python -m tests.ai.sdks --gateway http://127.0.0.1:8080"
        " --simulator http://127.0.0.1:9100 --key pg-… --only openai,anthropic --models fast,nova",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--direct", action="store_true", help="each client at the simulator of its own provider")
    where.add_argument("--gateway", metavar="URL", help="all clients at this gateway, which runs")
    parser.add_argument("--simulator", metavar="URL", help="a running simulator (needed with --gateway)")
    parser.add_argument("--key", default="", help="the virtual key that clients use with --gateway")
    parser.add_argument("--settle", type=float, default=0.0, metavar="SECONDS", help="to wait after each fault")
    parser.add_argument("--only", default=",".join(SUITES), help="clients, comma-separated (default: %(default)s)")
    parser.add_argument("--models", default=",".join(LABELS), help="of these models (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    args = parser.parse_args()
    wanted, labels = args.only.split(","), args.models.split(",")
    if unknown := [name for name in wanted if name not in SUITES]:
        parser.error(f"--only: {', '.join(unknown)} unknown; choose from {', '.join(SUITES)}")
    if unknown := [name for name in labels if name not in LABELS]:
        parser.error(f"--models: {', '.join(unknown)} unknown; choose from {', '.join(LABELS)}")
    if args.gateway and not args.simulator:
        parser.error("--gateway wants --simulator, the address of its simulated providers")
    return args, wanted, labels


def direct(simulator: Simulator) -> Place:
    url = simulator.url
    keys = {dialect: f"{dialect}-key-1" for dialect in ("openai", "anthropic", "gemini")}
    return Place(f"{url}/openai/v1", f"{url}/anthropic", f"{url}/gemini", keys, NAMES, simulator, True)


def at(url: str, key: str, simulator: Simulator, settle: float) -> Place:
    root = url.rstrip("/")
    keys = dict.fromkeys(("openai", "anthropic", "gemini"), key)
    return Place(f"{root}/v1", root, root, keys, {name: name for name in NAMES}, simulator, False, settle)


def run(name: str, place: Place, labels: list[str]) -> Iterator[Found]:
    module, attribute = SUITES[name]
    suite: Suite | None = None
    if module != "by_vercel":
        suite = getattr(importlib.import_module(f"tests.ai.{module}"), attribute)
    own = suite.own if suite else by_vercel.CLIENTS[name][1]
    if place.direct:
        labels = [label for label in labels if label == own]
    yield from feature.run(suite, place, labels) if suite else by_vercel.run(name, place, labels)


def show(found: list[Found], console: Console) -> None:
    """A line per client and model, a column per feature; below it why something failed."""
    features = list(dict.fromkeys(one.feature for one in found))
    marks = {(one.client, one.model, one.feature): one.ok for one in found}
    table = Table("client", "model", *(name.replace(" ", "\n") for name in features), box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for client, model in dict.fromkeys((one.client, one.model) for one in found):
        cells = [marks.get((client, model, name)) for name in features]
        signs = ["[dim]·[/dim]" if cell is None else "[green]✓[/green]" if cell else "[red]✗[/red]" for cell in cells]
        table.add_row(client, model, *signs)
    console.print(table, highlight=False)
    for one in found:
        if not one.ok:
            console.print(f"{one.client} {one.model} {one.feature}: {one.detail}", style="red", markup=False)


if __name__ == "__main__":
    sys.exit(main())

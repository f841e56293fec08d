"""`pygate VERB …`: finds the verbs by listing this package.

A verb is a module here with `add_parser(subparsers)` – which returns its parser – and `run(args) -> int`.
Exit codes: 0 done, 1 failed, 2 wrong usage or wrong configuration.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

import pygate.cli


def verbs() -> dict[str, ModuleType]:
    """Every verb by name."""
    found = {}
    for info in pkgutil.iter_modules(pygate.cli.__path__):
        module = importlib.import_module(f"pygate.cli.{info.name}") if info.name != "main" else None
        if module is not None and hasattr(module, "add_parser"):
            found[info.name] = module
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `pygate` command."""
    try:
        return _run(argv)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output left (`| head`); nothing more can be said on that pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="pygate",
        description="One gateway for API and AI traffic: guarded, audited, reversible.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Start with: pygate init && pygate check pygate.toml && pygate run -c pygate.toml",
    )
    parser.add_argument("--version", action="version", version=f"pygate {version()}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    modules = verbs()
    for module in modules.values():
        module.add_parser(subparsers)
    args = parser.parse_args(argv)
    return int(modules[args.verb].run(args))


def version() -> str:
    from importlib import metadata

    try:
        return metadata.version("pygate")
    except metadata.PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())

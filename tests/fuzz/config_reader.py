"""Fuzzes the configuration reader under atheris, see `config_promises`.

`python -m tests.fuzz.config_reader CORPUS... [libFuzzer options]`
"""

from __future__ import annotations

import sys

import atheris


def main() -> None:
    # Only what is imported in here for the first time reports its coverage.
    with atheris.instrument_imports(include=["pygate.config", "pygate.guard", "tests.fuzz.config_promises"]):
        from tests.fuzz import config_promises
    config_promises.confine()
    atheris.Setup(sys.argv, config_promises.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

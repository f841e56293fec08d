"""The command line: one module per verb, found by `pygate.cli.main`."""

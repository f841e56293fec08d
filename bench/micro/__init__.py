"""Single steps of the data plane through `pygate._core`: `pytest bench/micro` (pytest-benchmark)."""

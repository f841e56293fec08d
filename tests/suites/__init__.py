"""Programs that others wrote and trust, against a real gateway: `python -m tests.suites`."""

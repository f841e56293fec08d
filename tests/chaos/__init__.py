"""Claims that must hold while things break: `python -m tests.chaos.kill`, `python -m tests.chaos.reload`."""

"""Programs that others wrote and trust, against a real gateway: `python -m tests.suites`.

Every suite is a module with `run(place) -> list[Check]`: one client (or tool), one check per feature. `place` is the
gateway with its upstreams, both over plain TCP and TLS. A tool that is missing is an error, never a reason to skip.
"""

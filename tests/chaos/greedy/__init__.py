"""Slow and greedy clients against a real gateway, while a well-behaved one is served: `python -m tests.chaos.greedy`.

`attacks` lists what is done and what must become of it, `slow`, `sizes`, `idle` and `floods` do it (in a process of
their own, `attacker`), `steady` is the well-behaved client, `upstream` answers everybody, `stage` runs one attack and
measures.
"""

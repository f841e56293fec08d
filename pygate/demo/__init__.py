"""Demonstrations: an echo upstream in a process of its own (`pygate run --demo`), and what `pygate demo` shows."""

"""Guardrails on the control side: rule packs from TOML files, and their Hyperscan database.

Scanning itself is Rust (`pygate_core::guard`). `packs` finds and reads packs, `compile` makes rule sets and
databases of them, `examples` runs what every rule says about itself.
"""

# Both packages need parts of each other; this way round every first import works.
import pygate.config  # noqa: F401

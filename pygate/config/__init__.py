"""Configuration: read from TOML, checked as a whole, named by its content.

`load(path)` is the one way in. See `source` (files), `schema` (shape), `load` (everything together),
`problem` (what is wrong and how it is shown) and `secrets` (references).
"""

from pygate.config.load import Loaded, load
from pygate.config.problem import ConfigError, Place, Problem

__all__ = ["ConfigError", "Loaded", "Place", "Problem", "load"]

"""Prints the runtime and development requirements of a pyproject.toml, one a line, for `pip install --requirement`."""

import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
print("\n".join([*project["dependencies"], *project["optional-dependencies"]["dev"]]))

"""Prints the requirements of a pyproject.toml and all its extras, one a line, for `pip install --requirement`."""

import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"].values()
print("\n".join([*project["dependencies"], *(line for extra in extras for line in extra)]))

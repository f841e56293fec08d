"""Python plugins: hooks that a route calls for its requests and answers.

`context` is what a hook sees, `host` loads and calls plugins, `budget` stops those that take too long. Plugins run
inside the worker; routes without one run no Python.
"""

from pygate.plugins.context import Headers, Request, Response
from pygate.plugins.host import Answer, Continue, Decision, Fail, PluginError, PluginHost

__all__ = [
    "Answer",
    "Continue",
    "Decision",
    "Fail",
    "Headers",
    "PluginError",
    "PluginHost",
    "Request",
    "Response",
]

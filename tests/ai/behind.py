"""A real gateway before a simulator of providers: `with behind(simulator) as gateway: …`.

It serves the models that `sdks` and `accounting` ask for; callers need keys, which the admin API makes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pygate.admin.client import ask
from pygate.config.address import Address
from tests.control.running import Gateway
from tests.providers.running import ROOT

CONFIG = """
[entrypoints.web]
address = "127.0.0.1:0"
[admin]
address = "unix:{directory}/admin.sock"
[audit]
dir = "{directory}/audit"
[workers]
count = {count}
drain_timeout = "5s"

[ai.providers.openai]
kind = "openai"
base_url = "{simulator}/openai/v1"
credentials = {{ main = "env:SIM_OPENAI" }}
[ai.providers.anthropic]
kind = "anthropic"
base_url = "{simulator}/anthropic"
credentials = {{ main = "env:SIM_ANTHROPIC" }}
[ai.providers.gemini]
kind = "gemini"
base_url = "{simulator}/gemini"
credentials = {{ main = "env:SIM_GEMINI" }}
[ai.providers.bedrock]
kind = "bedrock"
region = "us-east-1"
base_url = "{simulator}/bedrock"
credentials = {{ main = "env:SIM_BEDROCK" }}

[ai.models]
fast = {{ targets = ["openai/gpt-5-mini"] }}
claude = {{ targets = ["anthropic/claude-sonnet-5-5"] }}
gemini = {{ targets = ["gemini/gemini-2.5-flash"] }}
nova = {{ targets = ["bedrock/amazon.nova-lite-v1:0"] }}
embed = {{ targets = ["openai/text-embedding-3-small"] }}

[[routes]]
name = "ai"
match = {{ path = ["/v1/**", "/v1beta/**"] }}
llm = {{ keys = "required" }}
"""
#: Keys of the simulated providers.
SECRETS = {
    "SIM_OPENAI": "openai-key-1",
    "SIM_ANTHROPIC": "anthropic-key-1",
    "SIM_GEMINI": "gemini-key-1",
    "SIM_BEDROCK": "AKIDBEDROCK1:bedrock-secret-1",
}


@dataclass
class AiGateway(Gateway):
    """Its control process, workers, audit log and store are real."""

    simulator: str = ""
    more: str = ""
    """Configuration after that of the models."""

    def write(self, extra: str = "") -> None:
        text = CONFIG.format(directory=self.directory, count=self.count, simulator=self.simulator)
        self.config.write_text(text + self.more + extra)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """What the admin API tells; anything but success is an error."""
        status, told = ask(Address.parse(f"unix:{self.directory}/admin.sock"), method, path, body)
        if status not in (200, 201):
            raise AssertionError(f"{method} {path}: {status} {told}")
        return told

    def key(self, name: str, **terms: Any) -> tuple[str, str]:
        """Id and secret of a new key that every worker knows."""
        made = self.admin("POST", "/ai/keys", {"name": name, **terms})
        if made["in_force"] is not True:
            raise AssertionError(f"key {name} is not in force in every worker")
        return str(made["id"]), str(made["key"])


@contextmanager
def behind(simulator: str, count: int = 2, more: str = "") -> Iterator[AiGateway]:
    """A gateway that serves the models of the simulator at that address."""
    directory = Path(tempfile.mkdtemp(prefix="pygate-"))
    gateway = AiGateway(directory, 0, count, simulator=simulator, more=more)
    try:
        gateway.start({**SECRETS, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])})
        yield gateway
        log = gateway.log
    finally:
        gateway.close()
        shutil.rmtree(directory, ignore_errors=True)
    for sign in ("Traceback", "panicked", "Exception ignored", "exception handler"):
        if sign in log:
            raise AssertionError(f"the gateway logged {sign}:\n{log[-4000:]}")

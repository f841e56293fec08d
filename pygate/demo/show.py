"""What `pygate demo` shows: a gateway before three simulated providers, in a directory of its own that is removed."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from pygate.admin.client import AskError, Unreachable, ask
from pygate.config.address import Address
from pygate.config.problem import Style
from pygate.demo.models import TOKENS, Providers

CONFIG = """\
entrypoints.web.address = "127.0.0.1:0"
admin.address = "unix:{directory}/admin.sock"
audit.dir = "{directory}/audit"
workers.count = 1
[ai.providers]
openai = {{ kind = "openai", base_url = "{url}/openai/v1" }}
anthropic = {{ kind = "anthropic", base_url = "{url}/anthropic" }}
gemini = {{ kind = "gemini", base_url = "{url}/gemini" }}
[ai.models]
claude = {{ targets = ["anthropic/claude-sonnet-5-5"] }}
quick = {{ targets = ["gemini/gemini-2.5-flash"] }}
smart.targets = [
    {{ provider = "openai", model = "gpt-5-mini" }},
    {{ provider = "anthropic", model = "claude-sonnet-5-5", priority = 1 }},
]
[[routes]]
name = "ai"
match = {{ path = "/v1/**" }}
llm = {{}}
"""
PATIENCE = 30.0


class Failed(Exception):
    """The demo could not show what it promises."""


class Show:
    def __init__(self, command: Callable[[list[str]], int], paint: Style) -> None:
        self._command, self._paint = command, paint
        self._directory = Path(tempfile.mkdtemp(prefix="pygate-demo-"))
        self._admin = Address.parse(f"unix:{self._directory}/admin.sock")
        self._key, self._port, self._step = "", 0, 0

    def run(self) -> None:
        """Shows all of it. Raises `Failed`."""
        try:
            with Providers() as providers, self._gateway(providers.url):
                self._title("A team that may spend 0.02 USD a day, and a virtual key of it")
                self._verb("teams", "create", "platform", "--limit", "usd:day:0.02")
                self._key = self._verb("keys", "create", "demo", "--team", "platform").split()[0]
                self._title("A call in OpenAI's words")
                self._expect("openai", *self._chat("smart", "What is a gateway?"))
                self._title("OpenAI answers 503 from now on; the same call")
                providers.broken.add("openai")
                self._expect("anthropic", *self._chat("smart", "What is failover?"))
                self._title("A stream in Anthropic's words, from Gemini")
                self._stream()
                self._title("The budget runs out")
                self._spend()
                self._title("What it came to")
                self._usage()
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)
        print("\nThat was all, and nothing is left behind.")

    def _title(self, text: str) -> None:
        self._step += 1
        print(f"\n{self._paint.bold(f'{self._step}. {text}')}", flush=True)

    @contextmanager
    def _gateway(self, providers: str) -> Iterator[None]:
        self._title("A gateway before three providers, all of them simulated")
        (self._directory / "pygate.toml").write_text(CONFIG.format(directory=self._directory, url=providers))
        command = [sys.executable, "-m", "pygate.cli.main", "run", "--run-dir", f"{self._directory}/run"]
        with (self._directory / "log").open("wb") as log:
            # In a group of its own: Ctrl-C is for the demo, which then ends it.
            process = subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=log, process_group=0)
        try:
            self._port = self._wait(process)
            print(f"   providers  openai, anthropic and gemini at {providers}")
            print("   models     smart: GPT-5 mini, or else Claude   claude: Claude   quick: Gemini Flash")
            print(f"   gateway    http://127.0.0.1:{self._port}")
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """The port of the gateway, once it is ready."""
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(Unreachable, AskError):
                if ask(self._admin, "GET", "/-/ready")[0] == 200:
                    return int(ask(self._admin, "GET", "/revision")[1]["listening"]["web"].rpartition(":")[2])
            time.sleep(0.05)
        raise Failed(f"the gateway did not start:\n{(self._directory / 'log').read_text()[-2000:]}")

    def _expect(self, provider: str, status: int, text: str) -> None:
        print(f"   {self._paint.bold(str(status))} {text}")
        if status != 200 or f"a simulated {provider}" not in text:
            raise Failed(f"expected an answer of {provider}")

    def _stream(self) -> None:
        began, arrived, kind = time.monotonic(), [], ""
        with self._ask("/v1/messages", "quick", "How fast is it?", stream=True) as answer:
            print("  ", end="")
            for event in (json.loads(line[5:]) for line in answer if line.startswith(b"data:")):
                kind = event["type"]
                if kind == "content_block_delta":
                    arrived.append(1000 * (time.monotonic() - began))
                    print(f" {event['delta']['text'].strip()}", end="", flush=True)
        if kind != "message_stop" or len(arrived) < 2:
            raise Failed("the stream did not end as it should")
        print(f"\n   {len(arrived)} pieces, the first after {arrived[0]:.0f} ms, the last {arrived[-1]:.0f} ms")

    def _spend(self) -> None:
        for number in range(1, 20):
            status, text = self._chat("claude", f"Question {number}?")
            print(f"   {self._paint.bold(str(status))} {text}")
            if status == 429:
                return
        raise Failed("expected 429 for a budget that is used up")

    def _usage(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ask(self._admin, "GET", "/ai/usage")[1]["total"]["refused"] and time.monotonic() < deadline:
            time.sleep(0.1)  # The log is followed a moment behind.
        self._verb("usage", "--by", "model,provider")

    def _verb(self, *arguments: str) -> str:
        """In this process, as one that is interrupted while it starts another may leave that behind."""
        print(self._paint.dim(f"   $ pygate {' '.join(arguments)}"), flush=True)
        with redirect_stdout(io.StringIO()) as printed:
            code = self._command([*arguments, "-c", f"{self._directory}/pygate.toml"])
        print("".join(f"   {line}".rstrip() + "\n" for line in printed.getvalue().splitlines()), end="")
        if code:
            raise KeyboardInterrupt if code == 130 else Failed(f"`pygate {arguments[0]}` ended with {code}")
        return printed.getvalue()

    def _chat(self, model: str, text: str) -> tuple[int, str]:
        """Status, and the answer's or error's text."""
        with self._ask("/v1/chat/completions", model, text) as answer:
            status, told = answer.status, json.loads(answer.read())
        return status, told["choices"][0]["message"]["content"] if status == 200 else told["error"]["message"]

    @contextmanager
    def _ask(self, path: str, model: str, text: str, **more: Any) -> Iterator[http.client.HTTPResponse]:
        body = {"model": model, "max_tokens": TOKENS, "messages": [{"role": "user", "content": text}], **more}
        print(self._paint.dim(f"   POST {path} {model}: {text}"))
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request("POST", path, json.dumps(body), {"authorization": f"Bearer {self._key}"})
            yield connection.getresponse()
        finally:
            connection.close()

"""The AI bench measures pygate alone for a second, and a wrong answer is a failure wherever it comes from."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from bench.ai import generators, peers, prompts, report
from bench.ai.cases import AiRow
from bench.proxy import load
from bench.proxy.processes import Pinned
from bench.proxy.report import judge
from tests.providers.running import ROOT


@pytest.mark.timeout(400)
def test_the_case_chat_of_pygate_alone(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    command = [sys.executable, "-m", "bench.ai", "--cases", "chat", "--peers", "pygate", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--seconds", "1", "--json", str(told)], cwd=ROOT, capture_output=True, text=True, timeout=380
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("bench=ok void=0 seconds="), done.stdout
    (row,) = json.loads(told.read_text())["rows"]
    assert (row["case"], row["peer"], row["errors"]) == ("chat", "pygate", 0)
    assert row["requests"] > 20 and row["cpu_us_per_request"] > 1
    # Every call is in the audit log with the provider's usage and the exact cost; those of the warm-up are, too.
    assert row["audited"] > row["requests"]


@contextmanager
def server(body: str, status: int = 200) -> Iterator[int]:
    """Answers every call with this."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running.server_port
        finally:
            running.shutdown()
            thread.join()


def gateway(name: str, port: int, directory: Path) -> peers.Gateway:
    """One that is not ours to run."""
    return peers.Gateway(name, cast(Pinned, None), port, directory, {})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (prompts.answer().replace(prompts.ANSWER, prompts.ANSWER[:-1]), 200),
        (prompts.answer().replace('"prompt_tokens":512', '"prompt_tokens":511'), 200),
        (prompts.answer(), 203),
        ("{}", 200),
        ("no JSON", 200),
    ],
)
def test_a_gateway_with_a_wrong_answer_is_not_measured(body: str, status: int, tmp_path: Path) -> None:
    with server(body, status) as port, pytest.raises(RuntimeError, match="envoy gives a wrong answer, status 20"):
        peers.check(gateway("envoy", port, tmp_path))
    with server(prompts.answer()) as port:
        peers.check(gateway("envoy", port, tmp_path))
        with pytest.raises(RuntimeError, match="pygate answers a wrong key with 200"):
            peers.check(gateway("pygate", port, tmp_path))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("answer", [prompts.answer().replace(prompts.ANSWER, "Something else."), prompts.answer()])
def test_load_counts_wrong_answers_as_errors(answer: str, tmp_path: Path) -> None:
    wrong = prompts.ANSWER not in answer
    with server(answer) as port:
        files = prompts.write(tmp_path, "call", prompts.chats()[:2], peers.CHAT, {})
        told = load.read(load.run(generators.chats(port, 2, files, 0.3)))
        streams = load.read(load.run(generators.streams(port, 1, files[0], 0.1)))
    assert (told["status"] > 0) is wrong and (told["requests"] > 0) is not wrong
    assert streams["requests"] == 0 and streams["status"] > 0, "a whole answer is no stream"
    row = AiRow("chat", "pygate", int(told["requests"]), int(told["status"]))
    assert bool(judge([row], budgets=report.BUDGETS)[1]) is wrong


def test_its_arguments() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bench.ai", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert "--json FILE" in run("--help").stdout
    refused = run("--peers", "pygate,nobody")
    assert refused.returncode == 2 and "nobody unknown; choose from pygate, envoy" in refused.stderr

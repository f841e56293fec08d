"""Generators beside wrk: h2load from Debian, and `bench/tools`, which is built when it is first needed.

All run one thread on the upstream's core and are read into counts, seconds, and times in µs, as wrk is.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.proxy import load
from bench.proxy.origin import ORIGIN_CORE
from bench.proxy.peers import PATHS, REPOSITORY, host
from bench.proxy.processes import StartError
from bench.proxy.shape import GROUP, SUITE

_OPENSSL = f"""openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = bench
[bench]
MinProtocol = TLSv1.3
Ciphersuites = {SUITE}
Groups = {GROUP}
"""


def openssl_environment(directory: Path) -> dict[str, str]:
    """Variables by which a program with OpenSSL speaks the bench's TLS and no other."""
    path = directory / "openssl.cnf"
    path.write_text(_OPENSSL)
    return {"OPENSSL_CONF": str(path)}


@functools.cache
def tools() -> Path:
    """The binary of `bench/tools`, up to date. Raises `StartError` when it cannot be built."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "tools"
    manifest = REPOSITORY / "bench" / "tools" / "Cargo.toml"
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", str(manifest)]
    if shutil.which("cargo") is None:
        raise StartError("bench/tools is written in Rust: install a toolchain, for example with rustup")
    # Not on the core this process keeps to.
    built = subprocess.run(
        ["taskset", "--cpu-list", f"0-{ORIGIN_CORE}", *command, "--target-dir", str(target)],
        capture_output=True,
        text=True,
    )
    if built.returncode != 0:
        raise StartError(f"bench/tools does not build: {built.stderr.strip()[-2000:]}")
    return target / "release" / "bench-tools"


def tool(*arguments: object) -> list[str]:
    """A command line of `bench/tools`."""
    return [str(tools()), *map(str, arguments)]


@dataclass
class H2Load:
    """h2load over `connections` connections with `streams` streams each."""

    directory: Path
    leaf: str
    connections: int = 16
    streams: int = 10
    tls: bool = False
    #: Sent as the body of a gRPC call.
    message: bytes | None = None

    def run(self, port: int, seconds: float) -> str:
        self._log.unlink(missing_ok=True)
        urls = self.directory / "h2load.urls"
        scheme = "https" if self.tls else "http"
        urls.write_text("".join(f"{scheme}://{host(0)}:{port}/api-{p}/{self.leaf}\n" for p in range(PATHS)))
        command = ["h2load", "-t1", f"-c{self.connections}", f"-m{self.streams}", f"-D{max(1, round(seconds))}"]
        command += [f"--log-file={self._log}", f"--input-file={urls}"]
        command += [f"--connect-to=127.0.0.1:{port}", f"--tls13-ciphers={SUITE}", f"--header=:authority: {host(0)}"]
        if self.message is not None:
            data = self.directory / "h2load.data"
            data.write_bytes(b"\0" + len(self.message).to_bytes(4, "big") + self.message)
            command += [f"--data={data}", "--header=content-type: application/grpc", "--header=te: trailers"]
        return load.run(command, openssl_environment(self.directory))

    def read(self, output: str) -> dict[str, float]:
        """The numbers of the last run, single times from its log."""
        return read_h2load(output, self._log.read_text())

    @property
    def _log(self) -> Path:
        return self.directory / "h2load.log"


def read_h2load(output: str, log: str) -> dict[str, float]:
    """The numbers of one run: its summary, and its log of single requests (`start status time`, times in µs)."""
    ended = re.search(r"finished in ([\d.]+)(ms|s|m),", output)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    if not ended or not counts:
        raise RuntimeError(f"h2load told no numbers: {output.strip()[-500:]}")
    succeeded, failed, errored, timeout = map(int, counts.groups())
    times, strange = [], 0
    for line in log.splitlines():
        _, status, taken = line.split("\t")[:3]
        times.append(int(taken))
        strange += status != "200"
    times.sort()
    last = len(times) - 1
    return {
        "requests": succeeded,
        "seconds": float(ended[1]) * {"ms": 1e-3, "s": 1.0, "m": 60.0}[ended[2]],
        "connect": 0,
        "read": errored,
        "write": 0,
        "status": max(failed, strange),
        "timeout": timeout,
        "p50": times[last // 2] if times else 0,
        "p99": times[last * 99 // 100] if times else 0,
        "max": times[-1] if times else 0,
    }

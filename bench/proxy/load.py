"""Load: wrk from Debian, one thread on the upstream's core, in closed loop, spread over fifty of the routes.

Also what load of any kind costs a gateway: `charge`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.proxy.origin import ORIGIN_CORE, Origin
from bench.proxy.peers import HOSTS, PATHS, host
from bench.proxy.processes import Pinned, core_busy_seconds

_SCRIPT = """
local requests, last = {}, 0
function init(args)
  local body = %(body)s > 0 and string.rep("b", %(body)s) or nil
  for i = 0, %(routes)d - 1 do
    local h, p = (i * 37) %% %(hosts)d, i %% %(paths)d
    local headers = { Host = string.format("%(host)s", h), ["User-Agent"] = "wrk", Accept = "*/*" }
    requests[#requests + 1] = wrk.format("%(method)s", string.format("/api-%%d/%(leaf)s", p), headers, body)
  end
end
function request()
  last = last %% #requests + 1
  return requests[last]
end
function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format('\\n{"requests":%%d,"seconds":%%.6f,"connect":%%d,"read":%%d,"write":%%d,"status":%%d,' ..
    '"timeout":%%d,"p50":%%.1f,"p99":%%.1f,"max":%%.1f}\\n', summary.requests, summary.duration / 1e6, e.connect,
    e.read, e.write, e.status, e.timeout, latency:percentile(50), latency:percentile(99), latency.max))
end
"""


@dataclass
class Work:
    """What is asked for, over how many connections."""

    method: str
    leaf: str
    body: int = 0
    connections: int = 64
    #: Distinct routes used. Each holds one copy of the body in the generator's memory.
    routes: int = 50
    #: Sent to the sink instead of nginx.
    sink: bool = False
    #: Variables of wrk's environment; with some, it speaks TLS.
    tls: dict[str, str] | None = None


@dataclass
class Sample:
    """One run of a work against one gateway."""

    requests: int
    errors: int
    rps: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float
    #: Shares of one core: the gateway, generator plus upstream, and all others that ran on the gateway's core.
    gateway: float
    feeding: float
    foreign: float

    @property
    def void(self) -> bool:
        """The gateway waited for the other side: its latency and rate say nothing about it."""
        return self.requests == 0 or (self.feeding > 0.95 and self.gateway < 0.7)


def script(directory: Path, work: Work) -> Path:
    values = {
        "body": work.body,
        "routes": work.routes,
        "hosts": HOSTS,
        "paths": PATHS,
        "host": host(0).replace("00", "%02d"),
        "method": work.method,
        "leaf": work.leaf,
    }
    path = directory / f"{work.method}-{work.leaf}.lua"
    path.write_text(_SCRIPT % values)
    return path


def run(command: list[str], env: dict[str, str] | None = None) -> str:
    """Runs a generator on the upstream's core to its end; what it printed. Raises RuntimeError when it failed."""
    pinned = ["taskset", "--cpu-list", str(ORIGIN_CORE), *command]
    done = subprocess.run(pinned, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with code {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout


def wrk(path: Path, port: int, work: Work, seconds: float) -> str:
    """wrk counts whole seconds."""
    command = ["wrk", "-t1", f"-c{work.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "--latency"]
    # A name, because it is also sent in the handshake.
    url = f"https://localhost:{port}/" if work.tls else f"http://127.0.0.1:{port}/"
    return run([*command, "-s", str(path), url], work.tls)


def read(output: str) -> dict[str, float]:
    """The line of JSON that a generator ends with; times in µs."""
    if "{" not in output:
        raise RuntimeError(f"a generator told no numbers: {output.strip()[-500:]}")
    numbers: dict[str, float] = json.loads(output[output.rindex("{") :])
    return numbers


def warm(path: Path, port: int, work: Work, seconds: float = 1.0) -> None:
    read(wrk(path, port, work, seconds))


def measure(path: Path, port: int, work: Work, seconds: float, gateway: Pinned, origin: Origin) -> Sample:
    """Runs wrk and charges the gateway's tree for what it used meanwhile."""
    return charge(lambda: wrk(path, port, work, seconds), read, gateway, origin)


def charge(
    generate: Callable[[], str], numbers_of: Callable[[str], dict[str, float]], gateway: Pinned, origin: Origin
) -> Sample:
    """Runs a generator to its end and charges the gateway's tree for what it used meanwhile."""
    cpu, fed, busy = gateway.cpu_seconds(), origin.cpu_seconds(), core_busy_seconds(gateway.core)
    spent, started = _children(), time.monotonic()
    output = generate()
    wall = time.monotonic() - started
    cpu, busy = gateway.cpu_seconds() - cpu, core_busy_seconds(gateway.core) - busy
    fed = origin.cpu_seconds() - fed + _children() - spent
    numbers = numbers_of(output)
    requests = int(numbers["requests"])
    return Sample(
        requests=requests,
        errors=int(sum(numbers[k] for k in ("connect", "read", "write", "status", "timeout"))),
        rps=requests / numbers["seconds"],
        p50_ms=numbers["p50"] / 1e3,
        p99_ms=numbers["p99"] / 1e3,
        max_ms=numbers["max"] / 1e3,
        cpu_us=cpu / requests * 1e6 if requests else float("nan"),
        gateway=cpu / wall,
        feeding=fed / wall,
        foreign=max(0.0, busy - cpu) / wall,
    )


def _children() -> float:
    """CPU of our finished children: every generator so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

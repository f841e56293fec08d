"""Command line of the simulator. Prints its address as JSON when it listens; ends by SIGTERM, SIGINT or `--life`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys

from tests.providers.catalogue import PROVIDERS
from tests.providers.server import Connection
from tests.providers.service import Service

EPILOG = """\
Base URLs (under the printed address), keys NAME-key-1 to NAME-key-9:
{bases}

Controls: GET|DELETE /__ledger, GET /__ledger/sums, GET|PUT|DELETE /__faults, GET /__providers, GET /__service-account.

examples:
  python -m tests.providers --port 9100
  curl -X PUT 127.0.0.1:9100/__faults -d '[{{"provider": "openai", "first": 2, "status": 429,
      "headers": {{"retry-after": "1"}}}}, {{"model": "claude*", "cut_deltas": 3}}]'
"""


def main() -> int:
    bases = "\n".join(f"  /{name}{provider.bases[0]}" for name, provider in PROVIDERS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.providers",
        description="A simulator of the providers of language models: their wire formats, errors and faults.",
        epilog=EPILOG.format(bases=bases),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0: any free one (default: %(default)s)")
    parser.add_argument("--token-life", type=int, default=3600, metavar="SECONDS", help="of Vertex's access tokens")
    parser.add_argument("--life", type=float, metavar="SECONDS", help="end after that time")
    parser.add_argument("--stdin", action="store_true", help="end with standard input, too")
    args = parser.parse_args()
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(serve(args))
    return 0


async def serve(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    service = Service(args.token_life)
    server = await loop.create_server(lambda: Connection(service), args.host, args.port, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    host = f"[{args.host}]" if server.sockets[0].family == socket.AF_INET6 else args.host
    print(json.dumps({"url": f"http://{host}:{port}", "port": port}), flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if args.stdin:
        loop.add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ended.wait(), args.life)
    server.close()


if __name__ == "__main__":
    sys.exit(main())

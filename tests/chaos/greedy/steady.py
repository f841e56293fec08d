"""`python -m tests.chaos.greedy.steady RECORD PORT…`: a well-behaved client; its times are what attacks may not harm.

`CONNECTIONS` keep-alive connections to each port, ports given as `tls:PORT` by TLS; one small GET on each every
`PAUSE` seconds. RECORD gets a line `TIME TOOK STATUS` per request, monotonic nanoseconds and microseconds; a request
without a complete answer has status 0 and a new connection follows. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
import sys
import time

import uvloop

from tests.chaos.upstream import parse_head, read_body

CONNECTIONS = 4
PAUSE = 0.02
PATIENCE = 20.0
REQUEST = b"GET /small HTTP/1.1\r\nhost: greedy.test\r\n\r\n"


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Believes every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


async def ask(port: str, record: int) -> None:
    """One connection after the other, one request after the other."""
    secure, number = port.startswith("tls:"), int(port.removeprefix("tls:"))
    context = tls_context() if secure else None
    while True:
        began = time.monotonic_ns()
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", number, ssl=context, server_hostname="greedy.test" if secure else None
                )
            while True:
                began = time.monotonic_ns()
                async with asyncio.timeout(PATIENCE):
                    writer.write(REQUEST)
                    first, fields = parse_head(await reader.readuntil(b"\r\n\r\n"))
                    await read_body(reader, fields)
                took = (time.monotonic_ns() - began) // 1000
                os.write(record, f"{time.monotonic_ns()} {took} {first.split(' ')[1]}\n".encode())
                await asyncio.sleep(PAUSE)
        except (OSError, EOFError, TimeoutError) as error:
            took = (time.monotonic_ns() - began) // 1000
            os.write(record, f"{time.monotonic_ns()} {took} 0 {type(error).__name__}\n".encode())
            await asyncio.sleep(PAUSE)


async def main(path: str, ports: list[str]) -> None:
    record = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    asking = [asyncio.create_task(ask(port, record)) for port in ports for _ in range(CONNECTIONS)]
    await asyncio.to_thread(sys.stdin.read)
    for task in asking:
        task.cancel()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2:]))

"""httpx with HTTP/2."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx

from tests.suites.check import Check, Checks
from tests.suites.place import Place

BODY = bytes(range(256)) * 20_480


async def _pieces() -> AsyncIterator[bytes]:
    for at in range(0, len(BODY), 100_000):
        yield BODY[at : at + 100_000]


def run(place: Place) -> list[Check]:
    checks = Checks("httpx")
    asyncio.run(_run(place, checks))
    return checks.found


async def _run(place: Place, checks: Checks) -> None:
    context = ssl.create_default_context(cafile=str(place.authority))
    for version, http2 in {"HTTP/1.1": False, "HTTP/2": True}.items():
        async with httpx.AsyncClient(
            base_url=place.secure_url, http1=not http2, http2=http2, verify=context, timeout=20
        ) as client:
            with checks.feature(f"{version}: GET"):
                answer = await client.get("/echo")
                assert answer.text == "hello" and answer.http_version == version, answer.http_version
            with checks.feature(f"{version}: 5 MiB up and down"):
                assert (await client.post("/echo", content=BODY)).content == BODY
            with checks.feature(f"{version}: streamed upload"):
                assert (await client.post("/echo", content=_pieces())).content == BODY
            with checks.feature(f"{version}: 50 at the same time"):
                answers = await asyncio.gather(*(client.get(f"/big?size={n * 1000}") for n in range(1, 51)))
                assert [len(a.content) for a in answers] == [n * 1000 for n in range(1, 51)]
            with checks.feature(f"{version}: events as they come"):
                times = []
                async with client.stream("GET", "/events") as answer:
                    async for line in answer.aiter_lines():
                        if line:
                            times.append(asyncio.get_running_loop().time())
                assert len(times) == 5 and times[-1] - times[0] > 0.2, times
            with checks.feature(f"{version}: fields reach the upstream"):
                told = (await client.get("/headers", headers={b"x-mine": "ü".encode(), b"cookie": b"a=1; b=2"})).json()
                assert ["cookie", "a=1; b=2"] in told and any(name == "x-mine" for name, _ in told), told
            with checks.feature(f"{version}: errors are answers"):
                statuses = [(await client.get(f"/status/{code}")).status_code for code in (404, 418, 503)]
                assert statuses == [404, 418, 503]
        # httpx takes no more of an answer that was left and gives its connection no window back: not for others to use.
        async with httpx.AsyncClient(
            base_url=place.secure_url, http1=not http2, http2=http2, verify=context, timeout=20
        ) as client:
            with checks.feature(f"{version}: answer left half read"):
                async with client.stream("GET", "/big?size=50000000") as answer:
                    async for _ in answer.aiter_raw():
                        break
                assert (await client.get("/echo")).status_code == 200

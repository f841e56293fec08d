"""Calls to authorities and OCSP responders: answers are capped, calls end in time, and no redirect is followed.

Everything here blocks: it runs in threads (`in_thread`) that nobody waits for beyond a deadline, not even the end of
the process.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests

#: Seconds for a connection, and for each piece of an answer.
CONNECT = 10.0
PIECE = 15.0
#: Seconds for a whole call.
CALL = 45.0

T = TypeVar("T")


def session() -> requests.Session:
    """A session that takes proxies from the environment, but no passwords from a `.netrc`."""
    made = requests.Session()
    made.auth = _no_credentials
    return made


def call(
    client: requests.Session, method: str, url: str, most: int, seconds: float = CALL, **options: Any
) -> requests.Response:
    """One request; its answer of at most `most` bytes is read whole. Raises `requests.RequestException`."""
    deadline = time.monotonic() + seconds
    options.update(stream=True, timeout=(CONNECT, PIECE), allow_redirects=False)
    with client.request(method, url, **options) as response:
        body = bytearray()
        for piece in response.iter_content(4096):
            body += piece
            if len(body) > most:
                raise requests.exceptions.ContentDecodingError(f"the answer is larger than {most >> 10} KiB")
            if time.monotonic() > deadline:
                raise requests.exceptions.ReadTimeout(f"the answer was not complete within {seconds:.0f} s")
        response._content = bytes(body)
    return response


async def in_thread(function: Callable[..., T], *arguments: Any, seconds: float = CALL + CONNECT) -> T:
    """Calls `function` in a thread of its own; raises `TimeoutError` when that takes longer, and leaves it behind."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except BaseException as e:
            error = e
        try:
            loop.call_soon_threadsafe(finish, result, error)
        except RuntimeError:
            return  # The loop is closed: nobody waits any more.

    threading.Thread(target=work, name=f"certificates {function.__name__}", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await done


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request

"""Forms with files (RFC 7578), as far as audio, images and files need them."""

from __future__ import annotations

import re

from tests.providers.wire import Refused, Request

_BOUNDARY = re.compile(r'^multipart/form-data\b.*?\bboundary="?([^";]+)"?', re.IGNORECASE)
_NAME = re.compile(rb'[; ]name="([^"]*)"', re.IGNORECASE)
_FILE = re.compile(rb'filename="([^"]*)"', re.IGNORECASE)


def boundary(request: Request) -> str | None:
    found = _BOUNDARY.search(request.header("content-type") or "")
    return found[1] if found else None


def parts(request: Request) -> dict[str, tuple[str | None, bytes]]:
    """Name → file name and octets. Of repeated names the last."""
    mark = boundary(request)
    if mark is None:
        raise Refused(400, "invalid", "expected a multipart form")
    found: dict[str, tuple[str | None, bytes]] = {}
    for part in (b"\r\n" + request.body).split(b"\r\n--" + mark.encode())[1:]:
        head, empty, octets = part.partition(b"\r\n\r\n")
        name, file = _NAME.search(head), _FILE.search(head)
        if empty and name:
            found[name[1].decode("utf-8", "replace")] = (file[1].decode("utf-8", "replace") if file else None, octets)
    return found


def text(request: Request, name: str) -> str | None:
    found = parts(request).get(name)
    return found[1].decode("utf-8", "replace") if found else None

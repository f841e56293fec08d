"""nghttp: the reference client of HTTP/2, frame by frame."""

from __future__ import annotations

import re

from tests.suites.check import Check, Checks, output_of
from tests.suites.place import Place


def run(place: Place) -> list[Check]:
    checks = Checks("nghttp")
    upload = place.directory / "nghttp-upload"
    upload.write_bytes(b"nghttp" * 50_000)
    secure = f"{place.secure_url}/echo"
    runs = {
        "GET over TLS": ([], secure, 1),
        "GET by prior knowledge": ([], f"{place.plain_url}/echo", 1),
        "20 of the same at the same time": (["--multiply=20"], secure, 20),
        "tiny windows": (["--window-bits=1", "--connection-window-bits=16"], f"{place.secure_url}/big?size=200", 1),
        "field block in CONTINUATION frames": (["--continuation"], secure, 1),
        "padded frames": (["--padding=200"], secure, 1),
        "small header table": (["--header-table-size=0"], secure, 1),
        "upload": ([f"--data={upload}"], secure, 1),
        "upload with trailers": ([f"--data={upload}", "--trailer=x-end: 1"], secure, 1),
        "no priorities": (["--no-dep"], secure, 1),
        "Expect: 100-continue": ([f"--data={upload}", "--expect-continue"], secure, 1),
        "priorities of RFC 9218": (["--no-rfc7540-pri", "--header=priority: u=0, i"], secure, 1),
    }
    for feature, (options, url, count) in runs.items():
        with checks.feature(feature):
            output = output_of(["nghttp", "--verbose", "--null-out", "--timeout=20", *options, url], 30)
            assert len(re.findall(r"recv \(stream_id=\d+\) :status: 200", output)) == count, output[-500:]
            assert "RST_STREAM" not in output, "a stream was reset"
            assert not re.search(r"recv GOAWAY.*\n.*error_code=(?!NO_ERROR)", output), "the connection ended in error"
    return checks.found

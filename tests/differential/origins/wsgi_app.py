"""The WSGI application for waitress and gunicorn; each has a parser of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tests.differential.origins.journal import Journal, ports

NAME = os.environ.get("DIFFERENTIAL_ORIGIN", "waitress")
journal = Journal(NAME)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    try:
        body, complete = environ["wsgi.input"].read(), True
    except Exception:  # gunicorn raises what its parser found wrong, of several types
        body, complete = b"", False
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"]
    headers = [(k[5:].replace("_", "-"), v) for k, v in environ.items() if k.startswith("HTTP_") and isinstance(v, str)]
    for name in ("CONTENT_LENGTH", "CONTENT_TYPE"):
        if environ.get(name):
            headers.append((name.replace("_", "-"), environ[name]))
    sock = environ.get("gunicorn.socket")
    port = sock.getsockname()[1] if sock else int(environ["SERVER_PORT"])
    text = journal.note(
        port, int(environ.get("REMOTE_PORT", 0)), environ["REQUEST_METHOD"], target, headers, body, complete
    )
    if not complete:
        start_response("400 Bad Request", [("Content-Length", "0"), ("Connection", "close")])
        return [b""]
    answer = [("Content-Type", "application/json"), ("Content-Length", str(len(text))), ("X-Origin", NAME)]
    start_response("200 OK", answer)
    # Waitress would send what is returned, HEAD or not: octets no answer owns.
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [text]


if __name__ == "__main__":
    if NAME == "waitress":
        import waitress

        waitress.serve(app, listen=" ".join(f"127.0.0.1:{port}" for port in ports()), threads=16, channel_timeout=120)
    else:
        # The threaded worker: the sync one closes after each answer, which would hide what follows it.
        binds = [word for port in ports() for word in ("-b", f"127.0.0.1:{port}")]
        options = ["--worker-class", "gthread", "--threads", "16", "--workers", "1", "--keep-alive", "120"]
        options += ["--log-level", "critical", "--no-control-socket"]
        command = [sys.executable, "-m", "gunicorn", *binds, *options, "tests.differential.origins.wsgi_app:app"]
        os.execv(sys.executable, command)

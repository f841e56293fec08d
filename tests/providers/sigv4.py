"""AWS Signature Version 4, checked with nothing of botocore's: the signature is made again and compared.

A bearer key is accepted, too, as Bedrock does. The clock may differ by five minutes. `x-amz-security-token`, if sent,
must be signed. What S3 does differently is not needed here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from tests.providers.wire import Call, Refused, Request

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)
_ACCESS = re.compile(r"AKIDBEDROCK([1-9])")


def check(call: Call) -> None:
    """Raises what Bedrock says to a wrong credential."""
    request = call.request
    if request.bearer is not None:
        if not re.fullmatch(r"bedrock-key-[1-9]", request.bearer):
            raise Refused(403, "permission", "Invalid API Key format: Must start with pre-defined prefix")
        return
    found = _AUTHORIZATION.fullmatch(request.header("authorization") or "")
    if found is None:
        raise Refused(403, "authentication", "Missing Authentication Token", code="MissingAuthenticationTokenException")
    access, day, region, name, signed, signature = found.groups()
    known = _ACCESS.fullmatch(access)
    if known is None:
        raise Refused(403, "authentication", "The security token included in the request is invalid.")
    stamp = request.header("x-amz-date") or ""
    try:
        when = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _wrong("x-amz-date is missing or malformed") from None
    if abs(datetime.now(UTC) - when) > timedelta(minutes=5):
        raise _wrong(f"Signature expired: {stamp}")
    if name != "bedrock" or not stamp.startswith(day):
        raise _wrong("Credential should be scoped to a valid date and to service 'bedrock'")
    names = signed.split(";")
    wanted = {"host"} | {name for name, _ in request.headers if name.startswith("x-amz-")}
    if names != sorted(names) or not wanted <= set(names):
        raise _wrong("host and every x-amz- header must be signed, in order")
    scope = f"{day}/{region}/{name}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, _digest(canonical(request, names).encode())))
    if not hmac.compare_digest(sign(f"bedrock-secret-{known[1]}", day, region, name, text), signature):
        raise _wrong("The request signature we calculated does not match the signature you provided.")


def canonical(request: Request, names: list[str]) -> str:
    """The canonical request. The path is encoded once more than it was sent, as every service but S3 does it."""
    pairs = []
    for part in request.target.partition("?")[2].split("&"):
        if part:
            key, _, value = part.partition("=")
            pairs.append((key, value))
    query = "&".join(f"{key}={value}" for key, value in sorted(pairs))
    fields = []
    for name in names:
        values = [" ".join(value.split()) for found, value in request.headers if found == name]
        fields.append(f"{name}:{','.join(values)}")
    path = quote(request.raw_path, safe="/-_.~")
    return "\n".join((request.method, path, query, *fields, "", ";".join(names), _digest(request.body)))


def sign(secret: str, day: str, region: str, name: str, text: str) -> str:
    key = b"AWS4" + secret.encode()
    for part in (day, region, name, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def _wrong(message: str) -> Refused:
    return Refused(403, "authentication", message, code="InvalidSignatureException")

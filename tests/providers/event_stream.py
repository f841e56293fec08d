"""AWS event-stream frames (`application/vnd.amazon.eventstream`): written, and read for tests.

A frame is its length, the length of its headers, CRC-32 of those eight octets, headers, payload, CRC-32 of all before
it; numbers are big-endian. A header is a name after its length, a type (7: string), a value after its length.
"""

from __future__ import annotations

import struct
import zlib

STRING = 7


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    packed = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", STRING, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + packed + payload
    return message + struct.pack("!I", zlib.crc32(message))


def frames(stream: bytes) -> list[tuple[dict[str, str], bytes]]:
    """Complete frames of a stream. Raises ValueError for a wrong checksum or an unfinished one."""
    found = []
    while stream:
        if len(stream) < 16:
            raise ValueError(f"{len(stream)} octets are no frame")
        total, length, check = struct.unpack_from("!III", stream)
        if check != zlib.crc32(stream[:8]):
            raise ValueError("wrong checksum of the prelude")
        if len(stream) < total:
            raise ValueError(f"a frame of {total} octets has only {len(stream)}")
        if struct.unpack_from("!I", stream, total - 4)[0] != zlib.crc32(stream[: total - 4]):
            raise ValueError("wrong checksum of a frame")
        found.append((_headers(stream[12 : 12 + length]), stream[12 + length : total - 4]))
        stream = stream[total:]
    return found


def _headers(packed: bytes) -> dict[str, str]:
    headers, at = {}, 0
    while at < len(packed):
        end = at + 1 + packed[at]
        kind, size = struct.unpack_from("!BH", packed, end)
        if kind != STRING:
            raise ValueError(f"a header of type {kind}")
        headers[packed[at + 1 : end].decode()] = packed[end + 3 : end + 3 + size].decode()
        at = end + 3 + size
    return headers

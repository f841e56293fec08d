"""Files of certificates: reads that are bounded, writes that are whole or not there.

Rules:

1. Only regular files are read, never more than a cap; a pipe or device does not hold the reader up.
2. A write is a new file with its mode from the first byte on, renamed over the old one.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from pathlib import Path

#: A certificate with its chain or a private key, a bundle of roots, an OCSP response; in bytes.
MAX_PEM = 1 << 20
MAX_BUNDLE = 8 << 20
MAX_OCSP = 64 << 10
#: Seconds after which a file that was being written was given up.
STALE = 60.0


class Unreadable(Exception):
    """A file that cannot be taken in; the message says why, without its path."""


def read(path: Path, most: int) -> tuple[bytes, int]:
    """Content and permission bits of a regular file of at most `most` bytes. Raises `Unreadable`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        raise Unreadable(_why(e)) from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise Unreadable("is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    except OSError as e:
        raise Unreadable(_why(e)) from None
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise Unreadable(f"is larger than {most >> 10} KiB")
    return data, stat.S_IMODE(state.st_mode)


def write(path: Path, data: bytes, durable: bool = True) -> None:
    """Writes a file of mode 0600 in one step; `durable`: it is on disk then. Raises `OSError`."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        fresh.rename(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    if not durable:
        return
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def private(directory: Path) -> Path:
    """Makes a directory that only its owner can enter; what a killed writer left there goes. Raises `OSError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    for left in directory.glob(".*.new"):
        if time.time() - left.stat(follow_symlinks=False).st_mtime > STALE:
            left.unlink(missing_ok=True)
    return directory


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be read: {error.strerror}"

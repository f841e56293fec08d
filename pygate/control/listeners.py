"""Listening sockets: bound here, taken from systemd, or inherited; never bound by a worker.

Rules:

1. One socket per entrypoint, shared by all workers: closing one worker's copy loses no queued connection.
2. A socket that already listens on the wanted address is kept, whoever bound it.
3. `[::]` is IPv6 only, so that it can stand beside `0.0.0.0`.
4. A stale Unix socket (nobody answers) is replaced, a live one is an error.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pygate.config.address import Address

BACKLOG = 4096
#: First inherited descriptor of systemd's protocol (sd_listen_fds(3)).
SYSTEMD_FIRST_FD = 3


class ListenError(Exception):
    """An address that cannot be listened on; the message names it and the reason."""


def bind(address: Address) -> socket.socket:
    """A listening socket. Raises `ListenError`."""
    try:
        return _bind_path(address.path) if address.path is not None else _bind_port(address)
    except OSError as e:
        reason = e.strerror or str(e)
        hint = "; another process listens there" if "in use" in reason else ""
        raise ListenError(f"cannot listen on {address.text}: {reason}{hint}") from None


def is_of(address: Address, sock: socket.socket) -> bool:
    """Whether `sock` already listens on `address`; port 0 stands for any port."""
    try:
        name = sock.getsockname()
    except OSError:
        return False
    if address.path is not None:
        return sock.family == socket.AF_UNIX and name == address.path
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or address.port not in (0, name[1]):
        return False
    with contextlib.suppress(OSError):
        family, _, _, _, where = _resolve(address)
        return bool(family == sock.family and where[0] == name[0])
    return False


def _bind_port(address: Address) -> socket.socket:
    family, kind, protocol, _, where = _resolve(address)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return _listen(sock, where)
    except OSError:
        sock.close()
        raise


def _bind_path(path: str) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        return _listen(sock, path)
    except OSError:
        sock.close()
        raise


def _listen(sock: socket.socket, where: Any) -> socket.socket:
    sock.bind(where)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def _resolve(address: Address) -> tuple[Any, ...]:
    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    return socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)[0]


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            raise OSError(f"{path} exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
    raise OSError("Address already in use")


def shown(sock: socket.socket) -> str:
    """The address a socket listens on, as a user would write it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


@dataclass(frozen=True)
class Listener:
    """A listening socket and the address it was configured with; empty: whatever is wanted of its name (systemd)."""

    text: str
    sock: socket.socket
    #: Bound by pygate; systemd's are neither unlinked nor rebound.
    ours: bool = True

    def serves(self, own_name: bool, address: Address) -> bool:
        """Whether it can be the listener for `address`, given whether it has the wanted name."""
        if own_name:
            return self.text in ("", address.text) or is_of(address, self.sock)
        return (address.port != 0 or address.path is not None) and is_of(address, self.sock)


def open_all(wanted: dict[str, str], have: dict[str, Listener]) -> dict[str, Listener]:
    """A listener per name in `wanted` (name → address); what fits of `have` is kept.

    All or nothing: on `ListenError` nothing was opened. What is not in the result is the caller's to close.
    """
    try:
        addresses = {name: Address.parse(text) for name, text in wanted.items()}
    except ValueError as e:
        raise ListenError(str(e)) from None
    left = dict(have)
    opened: dict[str, Listener] = {}
    fresh: list[socket.socket] = []
    try:
        for name, address in addresses.items():
            order = sorted(left, key=lambda other: other != name)
            fitting = next((other for other in order if left[other].serves(other == name, address)), None)
            if fitting is None:
                fresh.append(bind(address))
                opened[name] = Listener(address.text, fresh[-1])
            else:
                found = left.pop(fitting)
                opened[name] = Listener(address.text, found.sock, found.ours)
    except ListenError:
        for sock in fresh:
            sock.close()
        raise
    return opened


def from_systemd(environ: MutableMapping[str, str]) -> dict[str, Listener]:
    """The sockets systemd passed, by `FileDescriptorName=` (made unique); takes the variables out of `environ`."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    found: dict[str, Listener] = {}
    for index in range(int(count)):
        name = names[index] if index < len(names) and names[index] else f"fd{index}"
        while name in found:
            name += "+"
        sock = socket.socket(fileno=SYSTEMD_FIRST_FD + index)
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ListenError(f"systemd passed {name!r}, which is not a listening stream socket")
        os.set_inheritable(sock.fileno(), False)
        sock.setblocking(False)
        found[name] = Listener("", sock, ours=False)
    return found


def close(listener: Listener, unlink: bool = False) -> None:
    """Closes a listener; `unlink` also removes the path of a Unix socket that was bound here."""
    sock = listener.sock
    path = sock.getsockname() if unlink and listener.ours and sock.family == socket.AF_UNIX else None
    sock.close()
    if path:
        with contextlib.suppress(OSError):
            os.unlink(path)

"""Listening sockets: bound, kept, taken from systemd."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pygate.config.address import Address
from pygate.control import listeners
from pygate.control.listeners import Listener, ListenError, bind, close, from_systemd, open_all, shown


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pygate-") as directory:
        yield Path(directory)


def test_tcp_ipv6_and_unix(short: Path) -> None:
    for text in ("127.0.0.1:0", "[::1]:0", f"unix:{short}/a.sock"):
        sock = bind(Address.parse(text))
        with socket.socket(sock.family, socket.SOCK_STREAM) as client:
            client.connect(sock.getsockname())
        assert Address.parse(shown(sock)).text == shown(sock)
        close(Listener(text, sock), unlink=True)
    assert list(short.iterdir()) == []


def test_ipv6_stands_beside_ipv4() -> None:
    four = bind(Address.parse("0.0.0.0:0"))
    six = bind(Address.parse(f"[::]:{four.getsockname()[1]}"))
    six.close()
    four.close()


def test_taken_port_is_named() -> None:
    with bind(Address.parse("127.0.0.1:0")) as sock, pytest.raises(ListenError, match="another process listens"):
        bind(Address.parse(shown(sock)))


def test_stale_unix_socket_is_replaced_a_live_one_is_not(short: Path) -> None:
    path = short / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    sock = bind(Address.parse(f"unix:{path}"))
    with pytest.raises(ListenError):
        bind(Address.parse(f"unix:{path}"))
    sock.close()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(ListenError, match="not a socket"):
        bind(Address.parse(f"unix:{path}"))
    assert path.read_text() == "precious"


def test_what_fits_is_kept_even_under_another_name() -> None:
    first = open_all({"a": "127.0.0.1:0"}, {})
    text = shown(first["a"].sock)
    again = open_all({"a": "127.0.0.1:0"}, first)
    renamed = open_all({"b": text}, first)
    assert again["a"].sock is first["a"].sock is renamed["b"].sock
    moved = open_all({"a": "127.0.0.1:0", "b": "127.0.0.1:0"}, first)
    assert moved["a"].sock is first["a"].sock is not moved["b"].sock
    for item in (first["a"], moved["b"]):
        close(item)


def test_all_or_nothing(short: Path) -> None:
    with bind(Address.parse("127.0.0.1:0")) as taken:
        with pytest.raises(ListenError):
            open_all({"a": f"unix:{short}/a.sock", "b": shown(taken)}, {})
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(f"{short}/a.sock")


def test_systemd_sockets_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        monkeypatch.setattr(listeners, "SYSTEMD_FIRST_FD", os.dup(passed.fileno()))
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "OTHER": "x"}
        found = from_systemd(environ)
        assert environ == {"OTHER": "x"}
        # By name, whatever address the configuration has; it is systemd's to choose.
        opened = open_all({"web": "127.0.0.1:1"}, found)
        assert opened["web"].sock.getsockname() == passed.getsockname() and not opened["web"].ours
        opened["web"].sock.close()


@pytest.mark.parametrize("pid", ["", "1"])
def test_systemd_sockets_of_another_process_are_not_ours(pid: str) -> None:
    assert from_systemd({"LISTEN_PID": pid, "LISTEN_FDS": "1"}) == {}

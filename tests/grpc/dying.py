"""A gateway whose upstream begins an answer, says one message, and is reset when told."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import h2.config
import h2.connection
import h2.events

from tests.chaos.scene import free_address
from tests.control.running import BASE, Gateway


class DyingGateway(Gateway):
    def write(self, extra: str = "") -> None:
        text = BASE.replace("[[routes]]", 'protocol = "http2"\n[[routes]]').format(
            address=self.address,
            admin=self.directory / "admin.sock",
            audit=self.directory / "audit",
            count=1,
            upstream=self.upstream,
        )
        self.config.write_text(text + extra)


@contextlib.contextmanager
def scene() -> Iterator[tuple[grpc.Channel, Callable[[], None], list[tuple[str, str]]]]:
    """A channel, what kills the upstream, and the fields of the request as it saw them."""
    told = threading.Event()
    seen: list[tuple[str, str]] = []
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener, told, seen), daemon=True).start()
    directory = Path(tempfile.mkdtemp(prefix="pygate-"))
    gateway = DyingGateway(directory, listener.getsockname()[1], count=1, address=free_address())
    try:
        gateway.start()
        with grpc.insecure_channel(gateway.address) as channel:
            yield channel, told.set, seen
    finally:
        told.set()
        gateway.close()
        listener.close()
        shutil.rmtree(directory, ignore_errors=True)


def _serve(listener: socket.socket, told: threading.Event, seen: list[tuple[str, str]]) -> None:
    conn, _ = listener.accept()
    with conn:
        session = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        session.initiate_connection()
        conn.sendall(session.data_to_send())
        while data := conn.recv(65536):
            for event in session.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    seen += [(name.decode(), value.decode()) for name, value in event.headers]
                if isinstance(event, h2.events.StreamEnded):
                    head = [(":status", "200"), ("content-type", "application/grpc")]
                    session.send_headers(event.stream_id, head)
                    session.send_data(event.stream_id, b"\0\0\0\0\x05first")
                    conn.sendall(session.data_to_send())
                    told.wait(20)
                    # An abortive close: RST, not FIN.
                    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
            conn.sendall(session.data_to_send())

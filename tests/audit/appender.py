"""A worker in small: appends durable records and says which are acknowledged, until it is killed.

`python -m tests.audit.appender DIR SLOT` prints each acknowledged sequence and exchange id, one per line, written
with one system call, so that whatever its reader has seen was acknowledged before the kill.
"""

from __future__ import annotations

import os
import select
import sys
import time

from pygate._core import AuditLogWriter, encode_audit_intent, encode_audit_outcome


def main() -> None:
    directory, slot = sys.argv[1], int(sys.argv[2])
    writer = AuditLogWriter(directory, slot=slot, segment_size=64 << 10, flush_interval=0.002)
    waiting: list[tuple[int, bytes]] = []
    while True:
        for n in range(1 + int.from_bytes(os.urandom(1), "big") % 8):
            exchange = os.urandom(16)
            now = time.time_ns()
            writer.append(encode_audit_intent(exchange, now, route="kill"), 1, False)
            # Some outcomes are not durable: they may be lost, but must not disturb the others.
            durable = n != 3
            sequence = writer.append(encode_audit_outcome(exchange, now + 1, status=200), 1, durable)
            assert sequence is not None, "the backlog is full"
            if durable:
                waiting.append((sequence, exchange))
        select.select([writer.eventfd()], [], [], 1)
        writer.clear_eventfd()
        durable_to = writer.durable_seq()
        done = [f"{sequence} {exchange.hex()}\n" for sequence, exchange in waiting if sequence <= durable_to]
        waiting = [(sequence, exchange) for sequence, exchange in waiting if sequence > durable_to]
        if done:
            os.write(1, "".join(done).encode())


if __name__ == "__main__":
    main()

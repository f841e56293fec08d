"""PostgreSQL as a store, through psycopg 3. Imported only where a store's URL asks for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pygate.ai.database import LOCK_TIMEOUT, Cursor, Database, StoreError, Transaction

CONNECT_TIMEOUT = 5
#: Seconds without use after which a connection is tried before it is trusted.
IDLE = 5.0
#: Names our advisory lock; any number that others are unlikely to use.
_LOCK = 0x70796761746531
_OPTIONS = f"-c lock_timeout={int(LOCK_TIMEOUT * 1000)} -c statement_timeout=30000"


class _PostgresTransaction(Transaction):
    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def _execute(self, sql: str, values: Sequence[Any]) -> Cursor:
        cursor = self._connection.execute(_translated(sql), values)
        return cursor

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_translated(sql), rows)


class Postgres(Database):
    """One connection, made anew when it broke or the server went away meanwhile."""

    def __init__(self, url: str) -> None:
        """Raises `StoreError` when `url` is none."""
        super().__init__()
        self._url = url
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._used = 0.0
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            raise StoreError("the store's URL is not one that PostgreSQL knows") from None
        # What the URL says comes later, and wins.
        self._options = f"{_OPTIONS} {given.get('options') or ''}".strip()
        self._shown = f"postgresql://{given.get('host', '')}/{given.get('dbname', '')}"

    @property
    def shown(self) -> str:
        return self._shown

    @contextlib.contextmanager
    def _transaction(self, write: bool) -> Iterator[Transaction]:
        try:
            connection = self._connection = self._usable()
            # A reader sees one moment; writers take turns at the rows they change.
            mode = "READ COMMITTED" if write else "REPEATABLE READ, READ ONLY"
            connection.execute(f"BEGIN ISOLATION LEVEL {mode}")
        except psycopg.Error as e:
            self._close()
            raise StoreError(f"{self.shown} cannot be used: {_reason(e)}") from None
        try:
            yield _PostgresTransaction(connection)
            connection.execute("COMMIT")
            self._used = time.monotonic()
        except BaseException as e:
            with contextlib.suppress(psycopg.Error):
                connection.execute("ROLLBACK")
            if isinstance(e, psycopg.Error):
                self._close()
                raise StoreError(f"{self.shown} failed: {_reason(e)}") from e
            raise

    def _usable(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = self._connection
        if connection is not None and not connection.closed:
            if time.monotonic() - self._used < IDLE:
                return connection
            with contextlib.suppress(psycopg.Error):
                connection.execute("SELECT 1")
                return connection
            self._close()
        return psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT,
            options=self._options,
            application_name="pygate",
            keepalives_idle=10,
            # Through a pooler, a prepared statement may not be there the next time.
            prepare_threshold=None,
        )

    def exclude(self, transaction: Transaction) -> None:
        transaction.rows("SELECT pg_advisory_xact_lock(?)", _LOCK)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()


def _translated(sql: str) -> str:
    """Our statements are constants without `?` in texts; values never get into them."""
    return sql.replace("%", "%%").replace("?", "%s")


def _reason(error: psycopg.Error) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

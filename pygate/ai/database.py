"""A database behind one small interface: transactions, `?` placeholders, SQL that SQLite and PostgreSQL both know.

Rules:

1. Everything blocks; nothing here may be called on an event loop. One transaction at a time per `Database`.
2. A connection that broke is dropped and made anew with the next transaction; the one that noticed fails.
3. Whatever goes wrong with the database itself is a `StoreError`, whose text never holds a password.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

#: Seconds a statement may wait for another process's lock.
LOCK_TIMEOUT = 10.0


class StoreError(Exception):
    """The store cannot be used: out of reach, locked, damaged, of another version."""


class Cursor(Protocol):
    """What both libraries' cursors have in common."""

    @property
    def rowcount(self) -> int: ...
    def fetchall(self) -> list[Any]: ...


class Transaction(ABC):
    """One transaction; all of it is done or nothing."""

    @abstractmethod
    def _execute(self, sql: str, values: Sequence[Any]) -> Cursor: ...

    @abstractmethod
    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """The same statement with each of `rows`."""

    def execute(self, sql: str, *values: Any) -> int:
        """Number of rows that were changed."""
        return self._execute(sql, values).rowcount

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows found."""
        return [tuple(row) for row in self._execute(sql, values).fetchall()]

    def row(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row found."""
        return next(iter(self.rows(sql, *values)), None)


class Database(ABC):
    """A way to the database; connects when it is first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @property
    @abstractmethod
    def shown(self) -> str:
        """Where it is, for people: no password."""

    @abstractmethod
    def _transaction(self, write: bool) -> contextlib.AbstractContextManager[Transaction]: ...

    @abstractmethod
    def _close(self) -> None: ...

    @contextlib.contextmanager
    def read(self) -> Iterator[Transaction]:
        """A view of one moment. Raises `StoreError`."""
        with self._lock, self._transaction(False) as transaction:
            yield transaction

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """Changes that are on disk when this ends without an exception. Raises `StoreError`."""
        with self._lock, self._transaction(True) as transaction:
            yield transaction

    @abstractmethod
    def exclude(self, transaction: Transaction) -> None:
        """Until the end of this writing transaction nobody else makes tables or adds up usage."""

    def close(self) -> None:
        with self._lock:
            self._close()


class _SqliteTransaction(Transaction):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _execute(self, sql: str, values: Sequence[Any]) -> Cursor:
        return self._connection.execute(sql, values)

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(sql, rows)


class Sqlite(Database):
    """A file of mode 0600, in WAL mode: readers never wait for a writer."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._connection: sqlite3.Connection | None = None

    @property
    def shown(self) -> str:
        return f"sqlite:{self.path}"

    @contextlib.contextmanager
    def _transaction(self, write: bool) -> Iterator[Transaction]:
        try:
            connection = self._connection = self._connection or self._connect()
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        except (sqlite3.Error, OSError) as e:
            self._close()
            raise StoreError(f"{self.shown} cannot be used: {e}") from None
        try:
            yield _SqliteTransaction(connection)
            connection.execute("COMMIT")
        except BaseException as e:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if isinstance(e, sqlite3.Error):
                self._close()
                raise StoreError(f"{self.shown} failed: {e}") from e
            raise

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made here, so that it and the files SQLite puts beside it are ours alone from the first byte on.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # A revoked key must not come back with the power.
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def exclude(self, transaction: Transaction) -> None:
        """A writing transaction is alone anyway."""

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def open_database(url: str) -> Database:
    """`sqlite:PATH` or `postgresql://…`. Raises `StoreError` for anything else, and where psycopg is missing."""
    if url.startswith("sqlite:"):
        return Sqlite(Path(url.removeprefix("sqlite:")))
    if url.startswith(("postgresql:", "postgres:")):
        try:
            from pygate.ai.postgres import Postgres
        except ImportError:
            raise StoreError("a store in PostgreSQL needs psycopg: pip install 'pygate[postgres]'") from None
        return Postgres(url)
    raise StoreError("the store's URL is neither sqlite:PATH nor postgresql://…")

"""The store's tables, and how an older store becomes one of today.

`MIGRATIONS[n]` leads from schema version n to n + 1. A statement that was released never changes. Types are those that
SQLite and PostgreSQL both take: TEXT, and BIGINT for every number, time (unix seconds) and amount (nano-USD).
"""

from __future__ import annotations

from pygate.ai.database import Database, StoreError, Transaction

_KEYS = (
    """CREATE TABLE pygate_keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        team TEXT NOT NULL,
        project TEXT NOT NULL,
        models TEXT,
        priority BIGINT NOT NULL,
        max_output_tokens BIGINT,
        max_prompt_tokens BIGINT,
        created BIGINT NOT NULL,
        expires BIGINT,
        revoked BIGINT
    )""",
    """CREATE TABLE pygate_secrets (
        sha256 TEXT PRIMARY KEY,
        key_id TEXT NOT NULL REFERENCES pygate_keys (id),
        prefix TEXT NOT NULL,
        created BIGINT NOT NULL,
        retires BIGINT
    )""",
    "CREATE INDEX pygate_secrets_key ON pygate_secrets (key_id)",
    "CREATE TABLE pygate_teams (name TEXT PRIMARY KEY, created BIGINT NOT NULL)",
    "CREATE TABLE pygate_projects (name TEXT PRIMARY KEY, created BIGINT NOT NULL)",
    """CREATE TABLE pygate_limits (
        scope TEXT NOT NULL,
        kind TEXT NOT NULL,
        per TEXT NOT NULL,
        most BIGINT NOT NULL,
        PRIMARY KEY (scope, kind, per)
    )""",
    # What was used, per minute since 1970.
    """CREATE TABLE pygate_usage (
        minute BIGINT NOT NULL,
        key_id TEXT NOT NULL,
        team TEXT NOT NULL,
        project TEXT NOT NULL,
        model TEXT NOT NULL,
        target TEXT NOT NULL,
        provider TEXT NOT NULL,
        requests BIGINT NOT NULL,
        refused BIGINT NOT NULL,
        errors BIGINT NOT NULL,
        input_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        cached_read BIGINT NOT NULL,
        cached_write BIGINT NOT NULL,
        reasoning BIGINT NOT NULL,
        audio_input BIGINT NOT NULL,
        audio_output BIGINT NOT NULL,
        nano_usd BIGINT NOT NULL,
        unpriced BIGINT NOT NULL,
        estimated BIGINT NOT NULL,
        PRIMARY KEY (minute, key_id, team, project, model, target, provider)
    )""",
    "CREATE INDEX pygate_usage_key ON pygate_usage (key_id, minute)",
    # How far each log of each audit directory has been added up.
    """CREATE TABLE pygate_marks (
        source TEXT NOT NULL,
        log TEXT NOT NULL,
        segment BIGINT NOT NULL,
        position BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        PRIMARY KEY (source, log)
    )""",
    "INSERT INTO pygate_meta (name, number) VALUES ('keys', 1)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_KEYS,)


def migrate(database: Database) -> None:
    """Brings the tables up to date, in one transaction. Raises `StoreError` for a store of a newer program."""
    with database.write() as change:
        database.exclude(change)
        change.execute("CREATE TABLE IF NOT EXISTS pygate_meta (name TEXT PRIMARY KEY, number BIGINT NOT NULL)")
        version = number(change, "schema") or 0
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{database.shown} was made by a newer pygate (schema {version}; this one knows up to"
                f" {len(MIGRATIONS)}): use that one"
            )
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                change.execute(statement)
        if version < len(MIGRATIONS):
            change.execute(
                "INSERT INTO pygate_meta (name, number) VALUES ('schema', ?)"
                " ON CONFLICT (name) DO UPDATE SET number = excluded.number",
                len(MIGRATIONS),
            )


def number(transaction: Transaction, name: str) -> int | None:
    """A number of `pygate_meta`."""
    found = transaction.row("SELECT number FROM pygate_meta WHERE name = ?", name)
    return int(found[0]) if found else None

"""The tables, and how a store file is opened or refused."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SCHEMA_VERSION", "StoreError", "connect", "prepare"]

SCHEMA_VERSION: Final = 3

_EXPOSURES: Final = """
CREATE TABLE exposures (
    route TEXT NOT NULL,
    experiment TEXT NOT NULL,
    unit BLOB NOT NULL,                     -- a keyed hash of who it was; empty where the request did not say
    variant TEXT NOT NULL,
    first_at REAL NOT NULL,
    last_at REAL NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (route, experiment, unit, variant)
) WITHOUT ROWID;
CREATE INDEX exposures_by_age ON exposures (last_at);
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
INSERT INTO secrets VALUES ('units', randomblob(32));
"""
_OUTCOMES: Final = """
CREATE TABLE outcomes (
    route TEXT NOT NULL,
    metric TEXT NOT NULL,
    unit BLOB NOT NULL,                     -- hashed like that of an exposure; each counts once
    first_at REAL NOT NULL,
    last_at REAL NOT NULL,
    PRIMARY KEY (route, metric, unit)
) WITHOUT ROWID;
CREATE INDEX outcomes_by_unit ON outcomes (route, unit);
CREATE INDEX outcomes_by_age ON outcomes (last_at);
"""
_LATER: Final = {1: _EXPOSURES + _OUTCOMES, 2: _OUTCOMES}
"""What files of earlier versions lack."""
_TABLES: Final = f"""
CREATE TABLE pairs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- in order of storing; never used twice
    route TEXT NOT NULL,
    request_id TEXT NOT NULL,
    started_at REAL NOT NULL,               -- seconds since the epoch, by the proxy's clock
    stored_at REAL NOT NULL,                -- seconds since the epoch, by ours
    similarity REAL,                        -- 0 (worst) .. 1; NULL where the pair says nothing about quality
    summary TEXT NOT NULL,                  -- JSON: what a list of pairs shows
    UNIQUE (route, request_id)
);
CREATE INDEX pairs_by_route ON pairs (route, id);
CREATE INDEX pairs_by_similarity ON pairs (similarity, id) WHERE similarity IS NOT NULL;
CREATE INDEX pairs_by_route_similarity ON pairs (route, similarity, id) WHERE similarity IS NOT NULL;
CREATE TABLE legs (
    pair_id INTEGER NOT NULL REFERENCES pairs (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    leg TEXT NOT NULL,                      -- JSON: everything but the bodies
    request BLOB NOT NULL,
    response BLOB NOT NULL,
    PRIMARY KEY (pair_id, role)
) WITHOUT ROWID;
CREATE TABLE route_tallies (route TEXT PRIMARY KEY, tally TEXT NOT NULL);
CREATE TABLE pair_tallies (
    route TEXT NOT NULL, primary_variant TEXT NOT NULL, shadow_variant TEXT NOT NULL,
    comparator INTEGER NOT NULL,            -- results of different comparators do not mix
    tally TEXT NOT NULL,
    PRIMARY KEY (route, primary_variant, shadow_variant, comparator)
);
CREATE TABLE drops (reason TEXT PRIMARY KEY, n INTEGER NOT NULL);
{_EXPOSURES}
{_OUTCOMES}
"""


class StoreError(Exception):
    """The store cannot be opened or used; the message says why."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file without looking into it; transactions are begun and ended by hand."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    connection.execute("PRAGMA foreign_keys = ON")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Create the tables in a new file; refuse a file of another schema."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        # Before the first table, or it has no effect: pages of deleted pairs go back to the disk.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # One transaction: a crash in the middle leaves an empty file, which is taken up again.
        connection.executescript(
            f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    elif version in _LATER:
        marks = f"PRAGMA user_version = {SCHEMA_VERSION};"
        connection.executescript(f"BEGIN IMMEDIATE; {_LATER[version]} {marks} COMMIT;")
    elif version != SCHEMA_VERSION:
        raise StoreError(f"its schema is version {version}, this program reads version {SCHEMA_VERSION}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")

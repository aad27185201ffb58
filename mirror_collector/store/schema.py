"""The database schema for SQLite and PostgreSQL, and the migrations from earlier versions."""

from __future__ import annotations

from typing import Final

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "TABLES", "for_postgres", "for_sqlite"]

SCHEMA_VERSION: Final = 4

_EXPOSURES: Final = """
CREATE TABLE exposures (
    route TEXT NOT NULL,
    experiment TEXT NOT NULL,
    unit {blob} NOT NULL,                   -- keyed hash of the user or session; empty if unknown
    variant TEXT NOT NULL,
    first_at DOUBLE PRECISION NOT NULL,
    last_at DOUBLE PRECISION NOT NULL,
    requests BIGINT NOT NULL,
    PRIMARY KEY (route, experiment, unit, variant)
) {rowless};
CREATE INDEX exposures_by_age ON exposures (last_at);
CREATE TABLE secrets (name TEXT PRIMARY KEY, value {blob} NOT NULL);
"""
_OUTCOMES: Final = """
CREATE TABLE outcomes (
    route TEXT NOT NULL,
    metric TEXT NOT NULL,
    unit {blob} NOT NULL,                   -- hashed like exposures.unit; each unit counts once
    first_at DOUBLE PRECISION NOT NULL,
    last_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (route, metric, unit)
) {rowless};
CREATE INDEX outcomes_by_unit ON outcomes (route, unit);
CREATE INDEX outcomes_by_age ON outcomes (last_at);
"""
_EVIDENCE: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE evidence (
    route TEXT NOT NULL, primary_variant TEXT NOT NULL, shadow_variant TEXT NOT NULL,
    comparator BIGINT NOT NULL,
    block BIGINT NOT NULL,                  -- start of the block, seconds since the epoch, collector's clock
    seq BIGINT NOT NULL,                    -- increases with every write of a block; cursor of readers
    counts TEXT NOT NULL,                   -- JSON
    PRIMARY KEY (route, primary_variant, shadow_variant, comparator, block)
);
CREATE INDEX evidence_by_seq ON evidence (seq);
CREATE TABLE seen_units (
    route TEXT NOT NULL, primary_variant TEXT NOT NULL, shadow_variant TEXT NOT NULL,
    unit {blob} NOT NULL,                   -- hash of the hashed user or session and the API
    floored BIGINT NOT NULL,                -- 1: a pair with a noise baseline was counted as well
    last_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (route, primary_variant, shadow_variant, unit)
) {rowless};
CREATE INDEX seen_units_by_age ON seen_units (last_at);
CREATE TABLE feedback (
    id TEXT PRIMARY KEY,                    -- hash of the sender's id; the same id counts once
    route TEXT NOT NULL,
    metric TEXT NOT NULL,
    request_id TEXT NOT NULL,               -- empty for feedback of a user
    unit {blob} NOT NULL,                   -- hashed; empty for feedback on a request
    variant TEXT NOT NULL,                  -- empty if the sender did not give it
    value DOUBLE PRECISION NOT NULL,
    at DOUBLE PRECISION NOT NULL
);
CREATE INDEX feedback_by_request ON feedback (route, request_id);
CREATE INDEX feedback_by_age ON feedback (at);
CREATE TABLE judgements (
    pair_id BIGINT NOT NULL,
    prompt TEXT NOT NULL,                   -- version of the judge's prompt
    model TEXT NOT NULL,
    judgement TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (pair_id, prompt, model)
);
"""
_COLUMNS: Final = """
ALTER TABLE pairs ADD COLUMN comparator BIGINT NOT NULL DEFAULT 1;
ALTER TABLE pairs ADD COLUMN primary_variant TEXT NOT NULL DEFAULT '';
ALTER TABLE pairs ADD COLUMN shadow_variant TEXT NOT NULL DEFAULT '';
ALTER TABLE pairs ADD COLUMN flags BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pairs ADD COLUMN length_ratio DOUBLE PRECISION;
ALTER TABLE pairs ADD COLUMN unit {blob};
CREATE INDEX pairs_by_unit ON pairs (unit) WHERE unit IS NOT NULL;
CREATE INDEX pairs_by_request ON pairs (request_id);
INSERT INTO meta VALUES ('last_pair', (SELECT CAST(COALESCE(MAX(id), 0) AS TEXT) FROM pairs));
"""
_UNITS_KEY: Final = "INSERT INTO secrets VALUES ('units', randomblob(32));"
MIGRATIONS: Final = {
    1: _EXPOSURES + _UNITS_KEY + _OUTCOMES + _EVIDENCE + _COLUMNS,
    2: _OUTCOMES + _EVIDENCE + _COLUMNS,
    3: _EVIDENCE + _COLUMNS,
}
"""Statements that migrate SQLite files of earlier versions; PostgreSQL stores have no earlier versions."""
TABLES: Final = f"""
CREATE TABLE pairs (
    id {{id}},                              -- increases with every stored pair; never reused
    route TEXT NOT NULL,
    request_id TEXT NOT NULL,
    started_at DOUBLE PRECISION NOT NULL,   -- seconds since the epoch, proxy's clock
    stored_at DOUBLE PRECISION NOT NULL,    -- seconds since the epoch, collector's clock
    similarity DOUBLE PRECISION,            -- 0 (worst) .. 1; NULL if the pair does not measure quality
    summary TEXT NOT NULL,                  -- JSON: the pair as shown in lists
    UNIQUE (route, request_id)
);
CREATE INDEX pairs_by_route ON pairs (route, id);
CREATE INDEX pairs_by_similarity ON pairs (similarity, id) WHERE similarity IS NOT NULL;
CREATE INDEX pairs_by_route_similarity ON pairs (route, similarity, id) WHERE similarity IS NOT NULL;
CREATE TABLE legs (
    pair_id BIGINT NOT NULL REFERENCES pairs (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    leg TEXT NOT NULL,                      -- JSON: the leg without bodies, and the form of its bodies
    request {{blob}} NOT NULL,
    response {{blob}} NOT NULL,
    PRIMARY KEY (pair_id, role)
) {{rowless}};
CREATE TABLE route_tallies (route TEXT PRIMARY KEY, tally TEXT NOT NULL);
CREATE TABLE pair_tallies (
    route TEXT NOT NULL, primary_variant TEXT NOT NULL, shadow_variant TEXT NOT NULL,
    comparator BIGINT NOT NULL,             -- results of different versions are never added up
    tally TEXT NOT NULL,
    PRIMARY KEY (route, primary_variant, shadow_variant, comparator)
);
CREATE TABLE drops (reason TEXT PRIMARY KEY, n BIGINT NOT NULL);
{_EXPOSURES}
{_OUTCOMES}
{_EVIDENCE}
{_COLUMNS}
"""


def for_sqlite(text: str) -> str:
    """Return schema statements with the types of SQLite."""
    return text.format(blob="BLOB", id="INTEGER PRIMARY KEY", rowless="WITHOUT ROWID")


def for_postgres(text: str) -> str:
    """Return schema statements with the types of PostgreSQL."""
    return text.format(blob="BYTEA", id="BIGINT PRIMARY KEY", rowless="")

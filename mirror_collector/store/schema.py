"""The tables, for both databases, and what files of earlier versions lack."""

from __future__ import annotations

from typing import Final

__all__ = ["LATER", "SCHEMA_VERSION", "TABLES", "postgres", "sqlite"]

SCHEMA_VERSION: Final = 4

_EXPOSURES: Final = """
CREATE TABLE exposures (
    route TEXT NOT NULL,
    experiment TEXT NOT NULL,
    unit {blob} NOT NULL,                   -- a keyed hash of who it was; empty where the request did not say
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
    unit {blob} NOT NULL,                   -- hashed like that of an exposure; each counts once
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
    block BIGINT NOT NULL,                  -- when it begins, seconds since the epoch, by our clock
    seq BIGINT NOT NULL,                    -- grows with every write of any block: where a reader goes on
    counts TEXT NOT NULL,                   -- JSON
    PRIMARY KEY (route, primary_variant, shadow_variant, comparator, block)
);
CREATE INDEX evidence_by_seq ON evidence (seq);
CREATE TABLE seen_units (
    route TEXT NOT NULL, primary_variant TEXT NOT NULL, shadow_variant TEXT NOT NULL,
    unit {blob} NOT NULL,                   -- hashed like that of an exposure
    floored BIGINT NOT NULL,                -- 1: a pair with a second answer was counted as well
    last_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (route, primary_variant, shadow_variant, unit)
) {rowless};
CREATE INDEX seen_units_by_age ON seen_units (last_at);
CREATE TABLE feedback (
    id TEXT PRIMARY KEY,                    -- given by the sender, so that the same is counted once
    route TEXT NOT NULL,
    metric TEXT NOT NULL,
    request_id TEXT NOT NULL,               -- empty where it is of a user only
    unit {blob} NOT NULL,                   -- empty where it is of a request only
    variant TEXT NOT NULL,                  -- empty where the sender did not say
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
_NEWER: Final = """
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
LATER: Final = {
    1: _EXPOSURES + _UNITS_KEY + _OUTCOMES + _EVIDENCE + _NEWER,
    2: _OUTCOMES + _EVIDENCE + _NEWER,
    3: _EVIDENCE + _NEWER,
}
"""What SQLite files of earlier versions lack; there are no PostgreSQL stores of those."""
TABLES: Final = f"""
CREATE TABLE pairs (
    id {{id}},                              -- in order of storing; never used twice
    route TEXT NOT NULL,
    request_id TEXT NOT NULL,
    started_at DOUBLE PRECISION NOT NULL,   -- seconds since the epoch, by the proxy's clock
    stored_at DOUBLE PRECISION NOT NULL,    -- seconds since the epoch, by ours
    similarity DOUBLE PRECISION,            -- 0 (worst) .. 1; NULL where the pair says nothing about quality
    summary TEXT NOT NULL,                  -- JSON: what a list of pairs shows
    UNIQUE (route, request_id)
);
CREATE INDEX pairs_by_route ON pairs (route, id);
CREATE INDEX pairs_by_similarity ON pairs (similarity, id) WHERE similarity IS NOT NULL;
CREATE INDEX pairs_by_route_similarity ON pairs (route, similarity, id) WHERE similarity IS NOT NULL;
CREATE TABLE legs (
    pair_id BIGINT NOT NULL REFERENCES pairs (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    leg TEXT NOT NULL,                      -- JSON: everything but the bodies, and how those are kept
    request {{blob}} NOT NULL,
    response {{blob}} NOT NULL,
    PRIMARY KEY (pair_id, role)
) {{rowless}};
CREATE TABLE route_tallies (route TEXT PRIMARY KEY, tally TEXT NOT NULL);
CREATE TABLE pair_tallies (
    route TEXT NOT NULL, primary_variant TEXT NOT NULL, shadow_variant TEXT NOT NULL,
    comparator BIGINT NOT NULL,             -- results of different comparators do not mix
    tally TEXT NOT NULL,
    PRIMARY KEY (route, primary_variant, shadow_variant, comparator)
);
CREATE TABLE drops (reason TEXT PRIMARY KEY, n BIGINT NOT NULL);
{_EXPOSURES}
{_OUTCOMES}
{_EVIDENCE}
{_NEWER}
"""


def sqlite(text: str) -> str:
    """Return statements as SQLite understands them."""
    return text.format(blob="BLOB", id="INTEGER PRIMARY KEY", rowless="WITHOUT ROWID")


def postgres(text: str) -> str:
    """Return statements as PostgreSQL understands them."""
    return text.format(blob="BYTEA", id="BIGINT PRIMARY KEY", rowless="")

-- The tables of a store of schema 3, as its program made them.
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
PRAGMA user_version = 3;

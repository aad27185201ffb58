"""Who was told of which line of history, and the lines that come after one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xds_server.store.model import StoredEvent, StoredLine

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping

    from xds_server.store.model import Mark

__all__ = ["event", "keep", "lines", "marks"]


def lines(db: sqlite3.Connection, after: Mark, limit: int) -> tuple[StoredLine, ...]:
    """Return the lines of all routes' histories that follow another, oldest first."""
    rows = db.execute(
        "SELECT e.route, r.place, coalesce((SELECT s.spec FROM events s WHERE s.route = e.route "
        "AND s.seq <= e.seq AND s.spec IS NOT NULL ORDER BY s.seq DESC LIMIT 1), ''), "
        "e.seq, e.at, e.actor, r.what, r.message, e.phase, e.generation, e.revision, e.weights "
        "FROM records r JOIN events e USING (seq) "
        "WHERE (r.seq, r.place) > (?, ?) ORDER BY r.seq, r.place LIMIT ?",
        (*after, limit),
    ).fetchall()
    return tuple(
        StoredLine(route=route, place=place, spec=spec, event=event(*row))
        for route, place, spec, *row in rows
    )


def marks(db: sqlite3.Connection, targets: Collection[str]) -> dict[str, Mark]:
    """Return up to which line each target was told; new ones begin now, others are forgotten."""
    newest = db.execute("SELECT seq, place FROM records ORDER BY seq DESC, place DESC LIMIT 1").fetchone()
    known = {name: (seq, place) for name, seq, place in db.execute("SELECT target, seq, place FROM notified")}
    db.executemany("DELETE FROM notified WHERE target = ?", [(name,) for name in known.keys() - set(targets)])
    found = {name: known.get(name, newest or (0, -1)) for name in targets}
    keep(db, found)
    return found


def keep(db: sqlite3.Connection, marks: Mapping[str, Mark]) -> None:
    """Keep up to which line targets were told."""
    db.executemany(
        "INSERT INTO notified VALUES (?, ?, ?) "
        "ON CONFLICT (target) DO UPDATE SET seq = excluded.seq, place = excluded.place",
        [(target, *mark) for target, mark in marks.items()],
    )


def event(seq: int, at: float, actor: str, what: str, message: str, *stood: Any) -> StoredEvent:
    """Return a line of history from its columns."""
    phase, generation, revision, weights = stood
    return StoredEvent(
        seq=seq,
        at=at,
        actor=actor,
        what=what,
        message=message,
        phase=phase,
        generation=generation,
        revision=revision,
        weights=tuple((name, share) for name, share in json.loads(weights or "{}").items()),
    )

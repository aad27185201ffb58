"""Read events for notifications, and the cursor of the last event that was processed for each target."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xds_server.store.model import StoredEvent, StoredRouteEvent

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping

    from xds_server.store.model import Cursor

__all__ = ["events_after", "load_cursors", "save_cursors", "stored_event"]


def events_after(db: sqlite3.Connection, cursor: Cursor, limit: int) -> tuple[StoredRouteEvent, ...]:
    """Return the next records of all routes' histories after a cursor, oldest first."""
    rows = db.execute(
        "SELECT e.route, r.place, coalesce((SELECT s.spec FROM events s WHERE s.route = e.route "
        "AND s.seq <= e.seq AND s.spec IS NOT NULL ORDER BY s.seq DESC LIMIT 1), ''), "
        "e.seq, e.at, e.actor, r.what, r.message, e.phase, e.generation, e.revision, e.weights "
        "FROM records r JOIN events e USING (seq) "
        "WHERE (r.seq, r.place) > (?, ?) ORDER BY r.seq, r.place LIMIT ?",
        (*cursor, limit),
    ).fetchall()
    return tuple(
        StoredRouteEvent(route=route, place=place, spec=spec, event=stored_event(*row))
        for route, place, spec, *row in rows
    )


def load_cursors(db: sqlite3.Connection, targets: Collection[str]) -> dict[str, Cursor]:
    """Return the cursor of each target, and delete those of all other targets.

    New targets start at the end of history.
    """
    newest = db.execute("SELECT seq, place FROM records ORDER BY seq DESC, place DESC LIMIT 1").fetchone()
    known = {name: (seq, place) for name, seq, place in db.execute("SELECT target, seq, place FROM notified")}
    db.executemany("DELETE FROM notified WHERE target = ?", [(name,) for name in known.keys() - set(targets)])
    found = {name: known.get(name, newest or (0, -1)) for name in targets}
    save_cursors(db, found)
    return found


def save_cursors(db: sqlite3.Connection, cursors: Mapping[str, Cursor]) -> None:
    """Write the cursors of targets."""
    db.executemany(
        "INSERT INTO notified VALUES (?, ?, ?) "
        "ON CONFLICT (target) DO UPDATE SET seq = excluded.seq, place = excluded.place",
        [(target, *cursor) for target, cursor in cursors.items()],
    )


def stored_event(
    seq: int, at: float, actor: str, what: str, message: str, *rollout_columns: Any
) -> StoredEvent:
    """Return a record of history from its columns."""
    phase, generation, revision, weights = rollout_columns
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

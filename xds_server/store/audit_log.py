"""The audit's table: entries are put after the last one, in the transaction of what they tell of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.access.audit import GENESIS, AuditEvent, Checkpoint, Entry, Outcome, chained

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

__all__ = ["append", "by_key", "ends", "following", "head", "import_events", "newest"]

_DEED: Final = (
    "at",
    "actor",
    "via",
    "source",
    "action",
    "route",
    "reason",
    "outcome",
    "detail",
    "before",
    "after",
    "key",
    "digest",
)
_COLUMNS: Final = f"seq, {', '.join(_DEED)}, previous, hash"


_SINCE_CREATED: Final = (
    "seq > coalesce((SELECT max(gone.seq) FROM audit gone "
    "WHERE gone.route = audit.route AND gone.action = 'delete' AND gone.outcome <> 'refused'), 0)"
)


def head(db: sqlite3.Connection) -> Checkpoint:
    """Return the last entry, as it is kept apart from the entries."""
    row = db.execute("SELECT seq, hash FROM audit_head").fetchone()
    return Checkpoint(seq=0, hash=GENESIS) if row is None else Checkpoint(seq=row[0], hash=row[1])


def ends(db: sqlite3.Connection) -> tuple[Checkpoint, int]:
    """Return the last entry as it is kept apart, and the highest number there is, of the same moment."""
    seq, own, highest = db.execute(
        "SELECT (SELECT seq FROM audit_head), (SELECT hash FROM audit_head), (SELECT max(seq) FROM audit)"
    ).fetchone()
    return Checkpoint(seq=seq or 0, hash=own or GENESIS), highest or 0


def append(db: sqlite3.Connection, deed: AuditEvent) -> Entry:
    """Put a deed after the last one; belongs into a transaction."""
    entry = chained(deed, head(db))
    values = [getattr(deed, name) for name in _DEED if name != "outcome"]
    values.insert(_DEED.index("outcome"), deed.outcome.value)
    marks = ", ".join("?" * (len(_DEED) + 3))
    db.execute(
        f"INSERT INTO audit ({_COLUMNS}) VALUES ({marks})",  # noqa: S608 - our own names
        (entry.seq, *values, entry.previous, entry.hash),
    )
    db.execute(
        "INSERT INTO audit_head VALUES (1, ?, ?) "
        "ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
        (entry.seq, entry.hash),
    )
    return entry


def newest(
    db: sqlite3.Connection,
    limit: int,
    *,
    route: str | None,
    routes: Collection[str] | None,
    before: int | None,
) -> tuple[Entry, ...]:
    """Return the newest entries, oldest first: of one route, of some, or of all.

    Of some, only what happened since each of them was last created: whoever may see a route could perhaps
    not have seen another that had its name.
    """
    where, values = ["TRUE"], list[object]()
    if route is not None:
        where.append("route = ?")
        values.append(route)
    if routes is not None:
        where += [f"route IN ({', '.join('?' * len(routes))})", _SINCE_CREATED]
        values += sorted(routes)
    if before is not None:
        where.append("seq < ?")
        values.append(before)
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?",  # noqa: S608 - marks
        (*values, limit),
    ).fetchall()
    return tuple(_entry(row) for row in reversed(rows))


def by_key(db: sqlite3.Connection, actor: str, key: str) -> tuple[Entry, ...]:
    """Return what somebody did under an idempotency key."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE actor = ? AND key = ? AND key <> '' ORDER BY seq",  # noqa: S608
        (actor, key),
    ).fetchall()
    return tuple(_entry(row) for row in rows)


def following(db: sqlite3.Connection, after: int, last: int, limit: int) -> tuple[Entry, ...]:
    """Return the next entries after a number up to a last one, in order."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",  # noqa: S608 - our own
        (after, last, limit),
    ).fetchall()
    return tuple(_entry(row) for row in rows)


def import_events(db: sqlite3.Connection) -> None:
    """Begin the chain with what people did before there was one."""
    rows = db.execute(
        "SELECT e.route, e.at, e.actor, coalesce(json_extract(e.event, '$.command'), "
        "CASE WHEN e.event IS NULL THEN 'delete' ELSE 'apply' END), "
        "coalesce(json_extract(e.event, '$.reason'), ''), "
        "coalesce((SELECT group_concat(message, '; ') FROM "
        "(SELECT message FROM records WHERE seq = e.seq ORDER BY place)), '') "
        "FROM events e WHERE e.event IS NULL OR json_extract(e.event, '$.kind') IN ('spec', 'command') "
        "ORDER BY e.seq"
    ).fetchall()
    for route, at, actor, action, reason, detail in rows:
        append(
            db,
            AuditEvent(
                at=at,
                actor=actor,
                action=action,
                route=route,
                reason=reason,
                detail=detail,
                outcome=Outcome.IMPORTED,
            ),
        )


def _entry(row: tuple[object, ...]) -> Entry:
    seq, *values, previous, own = row
    fields = dict(zip(_DEED, values, strict=True))
    deed = AuditEvent(**{**fields, "outcome": Outcome(fields["outcome"])})  # type: ignore[arg-type] # STRICT tables
    return Entry(seq=int(str(seq)), deed=deed, previous=str(previous), hash=str(own))

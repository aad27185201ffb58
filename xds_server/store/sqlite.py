"""Specs, states and history of all routes in one SQLite file.

An event and the state it led to are written in one transaction, and only if the route's history ends where
the writer thinks it does: of two writers one loses, and knows it. What `commit` returned from is on the disk,
also after kill -9 or a power cut. History is never changed, not even by deleting a route.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Final

from xds_server.access.audit import verify
from xds_server.analysis.counts import (
    Counts,
    Leg,
    Role,
    added,
    block_of_json,
    block_to_json,
    counts_of_json,
    counts_to_json,
)
from xds_server.rollout import (
    Record,
    UnreadableError,
    event_from_json,
    event_to_json,
    state_from_json,
    state_to_json,
)
from xds_server.store import audit_log, delivery
from xds_server.store.file import StoreFile
from xds_server.store.model import (
    Change,
    ConflictError,
    Mark,
    StoredBlock,
    StoredEvent,
    StoredLine,
    StoredRoute,
    StoredSpec,
    StoreError,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from xds_server.access.audit import AuditEvent, Break, Checkpoint, Entry
    from xds_server.rollout import Effect, Event

__all__ = ["SqliteStore"]

_AT_ONCE: Final = 500
"""Entries of the audit that are read while others wait."""


class SqliteStore:
    """One file, one connection; methods may be called from any thread, one at a time."""

    def __init__(
        self, path: Path | str, *, on_audited: Callable[[Checkpoint], None] = lambda _checkpoint: None
    ) -> None:
        """Open or create the file.

        `on_audited` receives the head of the audit chain after each write, in the thread that wrote it.

        Raises:
            StoreError: It cannot be opened, is something else, or was written by a newer version.
        """
        self.file = StoreFile(path, on_audited=on_audited)

    def load(self) -> tuple[StoredRoute, ...]:
        """Return all routes.

        Raises:
            StoreError: A state was written by a version this one cannot read.
        """
        with self.file.reading() as db:
            rows = db.execute("SELECT name, seq, spec, file, state FROM routes ORDER BY name").fetchall()
        try:
            return tuple(
                StoredRoute(name=name, seq=seq, text=spec, file=file, state=state_from_json(state))
                for name, seq, spec, file, state in rows
            )
        except UnreadableError as error:
            raise StoreError(
                f"the store {self.file.path} holds a state of another version: {error}"
            ) from error

    def commit(self, *changes: Change) -> tuple[int, ...]:
        """Keep events and the states they led to, all of them or none; return the events' numbers.

        Raises:
            ConflictError: A route's history ends elsewhere.
            StoreError: The disk is full or gone.
        """
        with self.file.writing() as db:
            return tuple(self._keep(db, change) for change in changes)

    def delete(self, name: str, *, deed: AuditEvent) -> None:
        """Forget a route and what was counted of it; its history stays, and ends with that."""
        with self.file.writing() as db:
            record = Record(what="deleted", message="the route was deleted")
            seq = _insert(db, "events", route=name, at=deed.at, actor=deed.actor)
            self._record(db, seq, (record,))
            for table, column in (("routes", "name"), ("blocks", "route"), ("days", "route")):
                db.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))  # noqa: S608 - our own names
            self.file.audit(deed)

    def note(self, deed: AuditEvent) -> None:
        """Write down what somebody did that changed no route, or was refused."""
        with self.file.writing():
            self.file.audit(deed)

    def head(self) -> Checkpoint:
        """Return the last entry of the audit."""
        with self.file.reading() as db:
            return audit_log.head(db)

    def history(
        self, name: str, limit: int, before: int | None = None, *, whole: bool = True
    ) -> tuple[StoredEvent, ...]:
        """Return the newest `limit` lines of a route's history, oldest first; of events `before` one.

        If not the `whole`, then what happened since it was last created.
        """
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT e.seq, e.at, e.actor, r.what, r.message, "
                "e.phase, e.generation, e.revision, e.weights "
                "FROM records r JOIN events e USING (seq) "
                "WHERE e.route = ? AND (? IS NULL OR e.seq < ?) AND (? OR e.seq > "
                "coalesce((SELECT max(seq) FROM events WHERE route = ? AND event IS NULL), 0)) "
                "ORDER BY e.seq DESC, r.place DESC LIMIT ?",
                (name, before, before, whole, name, limit),
            ).fetchall()
        return tuple(delivery.event(*row) for row in reversed(rows))

    def lines(self, after: Mark, limit: int) -> tuple[StoredLine, ...]:
        """Return the lines of all routes' histories that follow another, oldest first."""
        with self.file.reading() as db:
            return delivery.lines(db, after, limit)

    def marks(self, targets: Collection[str]) -> dict[str, Mark]:
        """Return up to which line each target was told; one not known before begins with what comes next.

        Targets that are not named are forgotten.
        """
        with self.file.writing() as db:
            return delivery.marks(db, targets)

    def keep_marks(self, marks: Mapping[str, Mark]) -> None:
        """Keep up to which line targets were told.

        Raises:
            StoreError: The disk is full or gone.
        """
        with self.file.writing() as db:
            delivery.keep(db, marks)

    def audit(
        self,
        limit: int,
        *,
        route: str | None = None,
        routes: Collection[str] | None = None,
        before: int | None = None,
    ) -> tuple[Entry, ...]:
        """Return the newest `limit` entries, oldest first: of one route, of some or of any."""
        with self.file.reading() as db:
            return audit_log.newest(db, limit, route=route, routes=routes, before=before)

    def audit_by_key(self, actor: str, key: str) -> tuple[Entry, ...]:
        """Return what somebody did under an idempotency key."""
        with self.file.reading() as db:
            return audit_log.by_key(db, actor, key)

    def audit_breaks(self, anchors: Iterable[Checkpoint] = ()) -> tuple[int, list[Break]]:
        """Return how many entries the audit has, and where its chain does not hold.

        What is written meanwhile waits for some entries at a time and never for all; it is not looked at.
        """
        with self.file.reading() as db:
            head, highest = audit_log.ends(db)
        return head.seq, list(verify(self._entries(highest), head, anchors))

    def audit_following(self, after: int, last: int, limit: int) -> tuple[Entry, ...]:
        """Return the next entries after a number up to a last one, in order."""
        with self.file.reading() as db:
            return audit_log.following(db, after, last, limit)

    def _entries(self, last: int) -> Iterator[Entry]:
        after = -1
        while page := self.audit_following(after, last, _AT_ONCE):
            yield from page
            after = page[-1].seq

    def specs(self, name: str) -> tuple[StoredSpec, ...]:
        """Return the specs a route was given since it was last created, oldest first."""
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT generation, spec, file FROM events WHERE route = ? AND spec IS NOT NULL "
                "AND generation IS NOT NULL AND seq > "
                "coalesce((SELECT max(seq) FROM events WHERE route = ? AND event IS NULL), 0) ORDER BY seq",
                (name, name),
            ).fetchall()
        return tuple(
            StoredSpec(generation=generation, text=text, file=file or "") for generation, text, file in rows
        )

    def events(self, name: str) -> tuple[tuple[Event, float], ...]:
        """Return every event of a route with its time, oldest first, since it was last created.

        Letting `rollout.step` take them one by one gives the kept state again.
        """
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT event, at FROM events WHERE route = ? AND seq > "
                "coalesce((SELECT max(seq) FROM events WHERE route = ? AND event IS NULL), 0) ORDER BY seq",
                (name, name),
            ).fetchall()
        return tuple((event_from_json(text), at) for text, at in rows)

    def keep_blocks(self, blocks: Iterable[StoredBlock], *, drop_before: float) -> None:
        """Keep blocks of counts, and drop those that ended before some time.

        Raises:
            StoreError: The disk is full or gone.
        """
        rows = [
            (
                stored.route,
                stored.run,
                stored.block.start + stored.block.seconds,
                zlib.compress(json.dumps(block_to_json(stored.block)).encode()),
            )
            for stored in blocks
        ]
        with self.file.writing() as db:
            db.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?)", rows)
            db.execute("DELETE FROM blocks WHERE at < ?", (drop_before,))

    def add_days(self, days: Mapping[tuple[str, Leg], Counts], *, drop_before: str) -> None:
        """Add counts to those of their day (such as 2026-01-31, UTC), and drop days before another.

        Raises:
            StoreError: The disk is full or gone.
        """
        with self.file.writing() as db:
            for (day, leg), counts in days.items():
                key = (leg.route, day, leg.variant, leg.role.value)
                row = db.execute(
                    "SELECT counts FROM days WHERE (route, day, variant, role) = (?, ?, ?, ?)", key
                ).fetchone()
                total = counts if row is None else added(counts_of_json(json.loads(row[0])), counts)
                db.execute(
                    "INSERT INTO days VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (route, day, variant, role) DO UPDATE SET counts = excluded.counts",
                    (*key, json.dumps(counts_to_json(total))),
                )
            db.execute("DELETE FROM days WHERE day < ?", (drop_before,))

    def days(self, name: str) -> tuple[tuple[str, Leg, Counts], ...]:
        """Return what was counted of a route by day, oldest first."""
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT day, variant, role, counts FROM days WHERE route = ? ORDER BY day, variant, role",
                (name,),
            ).fetchall()
        return tuple(
            (day, Leg(route=name, variant=variant, role=Role(role)), counts_of_json(json.loads(counts)))
            for day, variant, role, counts in rows
        )

    def blocks(self, name: str, limit: int, run: int | None = None) -> tuple[StoredBlock, ...]:
        """Return the newest blocks of a route, of one run or of all, oldest first."""
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT run, body FROM blocks WHERE route = ? AND (? IS NULL OR run = ?) "
                "ORDER BY at DESC LIMIT ?",
                (name, run, run, limit),
            ).fetchall()
        return tuple(
            StoredBlock(route=name, run=of, block=block_of_json(json.loads(zlib.decompress(body))))
            for of, body in reversed(rows)
        )

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _expect(self, db: sqlite3.Connection, name: str, expected: int | None) -> None:
        row = db.execute("SELECT seq FROM routes WHERE name = ?", (name,)).fetchone()
        found = None if row is None else row[0]
        if found != expected:
            raise ConflictError(
                f"route {name!r} is at event {found}, not {expected}: somebody changed it first"
            )

    def _keep(self, db: sqlite3.Connection, change: Change) -> int:
        self._expect(db, change.name, change.expected)
        state = change.state
        seq = _insert(
            db,
            "events",
            route=change.name,
            at=change.at,
            actor=change.actor,
            event=event_to_json(change.event),
            spec=change.text,
            file=change.file,
            phase=state.phase.value,
            generation=state.generation,
            revision=state.revision,
            weights=json.dumps(state.weights),
        )
        self._record(db, seq, change.effects)
        if change.text is not None:
            db.execute(
                "INSERT INTO routes VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "seq = excluded.seq, spec = excluded.spec, file = excluded.file, state = excluded.state",
                (change.name, seq, change.text, change.file or "", state_to_json(state)),
            )
        else:
            db.execute(
                "UPDATE routes SET seq = ?, state = ? WHERE name = ?",
                (seq, state_to_json(state), change.name),
            )
        if change.deed is not None:
            self.file.audit(change.deed)
        return seq

    def _record(self, db: sqlite3.Connection, seq: int, effects: tuple[Effect, ...]) -> None:
        records = [effect for effect in effects if isinstance(effect, Record)]
        db.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?)",
            [(seq, place, record.what, record.message) for place, record in enumerate(records)],
        )


def _insert(db: sqlite3.Connection, table: str, **values: object) -> int:
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    cursor = db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608 - our own names
    return int(cursor.lastrowid or 0)

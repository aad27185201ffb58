"""The chain shows every tampering with it that an anchor or the head can show."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from contextlib import closing
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from xds_server.access.audit import (
    GENESIS,
    AuditEvent,
    Checkpoint,
    Entry,
    Outcome,
    chained,
    entry_from_json,
    entry_to_json,
    verify,
)
from xds_server.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TRIES = 1_000
LENGTH = 40


def deed(number: int) -> AuditEvent:
    return AuditEvent(
        at=1_000.5 + number,
        actor=f"ada{number % 3}",
        action=("apply", "kill", "abort")[number % 3],
        route="chat",
        reason="wé",
        outcome=Outcome.DONE if number % 5 else Outcome.REFUSED,
        detail="it was so",
        via="token 0123456789ab",
        source="127.0.0.1",
        before="" if number % 2 else '{"phase":"Healthy"}',
        after='{"phase":"Progressing","weights":{"v2":5.0}}',
        key=f"k{number}",
        digest="d",
    )


def filled(path: Path) -> Checkpoint:
    """Write a store with an audit and return its head."""
    store = SqliteStore(path)
    for number in range(LENGTH):
        store.note(deed(number))
    head = store.head()
    store.close()
    return head


def changed(rng: random.Random, db: sqlite3.Connection) -> str:
    column, at = (
        rng.choice([f.name for f in fields(AuditEvent)] + ["previous", "hash"]),
        rng.randint(1, LENGTH),
    )
    (old,) = db.execute(f"SELECT {column} FROM audit WHERE seq = ?", (at,)).fetchone()  # noqa: S608
    new: Any = old + 0.25 if column == "at" else str(old) + "x"
    if column == "outcome":
        new = "imported"
    if column == "hash":
        new = rng.randbytes(32).hex()
    db.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (new, at))  # noqa: S608
    return f"{column} of {at}"


def deleted(rng: random.Random, db: sqlite3.Connection) -> str:
    at = rng.randint(1, LENGTH)
    db.execute("DELETE FROM audit WHERE seq = ?", (at,))
    if rng.random() < 0.5:
        # And those behind move up, as if nothing had been there.
        db.execute("UPDATE audit SET seq = -seq WHERE seq > ?", (at,))
        db.execute("UPDATE audit SET seq = -seq - 1 WHERE seq < 0")
    return f"deletion of {at}"


def swapped(rng: random.Random, db: sqlite3.Connection) -> str:
    one, other = rng.sample(range(1, LENGTH + 1), 2)
    db.execute("UPDATE audit SET seq = -1 WHERE seq = ?", (one,))
    db.execute("UPDATE audit SET seq = ? WHERE seq = ?", (one, other))
    db.execute("UPDATE audit SET seq = ? WHERE seq = -1", (other,))
    return f"swap of {one} and {other}"


@pytest.mark.parametrize("tamper", [changed, deleted, swapped])
def test_every_change_deletion_and_swap_of_a_record_is_found(
    tmp_path: Path, tamper: Callable[[random.Random, sqlite3.Connection], str]
) -> None:
    path = tmp_path / "state.sqlite"
    filled(path)
    rng = random.Random(7)
    store = SqliteStore(path)
    assert store.audit_breaks() == (LENGTH, [])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for _ in range(TRIES // 3 + 1):
            db.execute("BEGIN")
            what = tamper(rng, db)
            db.execute("COMMIT")
            assert store.audit_breaks()[1], what
            db.execute("DELETE FROM audit")
            db.execute("DELETE FROM audit_head")
            for number in range(LENGTH):
                store.note(deed(number))
    assert store.audit_breaks() == (LENGTH, [])
    store.close()


def test_a_long_audit_is_checked_while_others_write(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.sqlite")
    for number in range(1_200):
        store.note(deed(number))

    head = store.head()

    def written_meanwhile() -> Iterator[Checkpoint]:
        # Whoever checks is in the middle of it; if the store were held so long, this would wait for ever.
        writer = threading.Thread(target=store.note, args=(deed(7),), daemon=True)
        writer.start()
        writer.join(10)
        assert not writer.is_alive(), "a write waits until everything was checked"
        yield head

    assert store.audit_breaks(written_meanwhile()) == (1_200, []), "what came meanwhile is not looked at"
    store.close()


def test_whoever_rewrites_everything_is_found_by_an_anchor(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    head = filled(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM audit")
        db.execute("DELETE FROM audit_head")
        db.commit()
    store = SqliteStore(path)
    for number in range(LENGTH):
        store.note(deed(number if number != 3 else 4))
    assert store.audit_breaks()[1] == [], "the chain alone holds again"
    (found,) = store.audit_breaks([head])[1]
    assert "known from elsewhere" in found.words
    assert store.audit_breaks([Checkpoint(seq=LENGTH + 5, hash=head.hash)])[1]
    store.close()


def test_what_is_exported_is_what_was_kept() -> None:
    entries: list[Entry] = []
    last = Checkpoint(seq=0, hash=GENESIS)
    for number in range(9):
        entries.append(chained(deed(number), last))
        last = Checkpoint(seq=entries[-1].seq, hash=entries[-1].hash)
    again = [entry_from_json(json.loads(json.dumps(entry_to_json(entry)))) for entry in entries]
    assert again == entries
    assert list(verify(again, last)) == []


def test_an_empty_chain_holds() -> None:
    assert list(verify([], Checkpoint(seq=0, hash=GENESIS))) == []
    assert list(verify([], Checkpoint(seq=1, hash="x" * 64)))


def test_the_chain_stays_whole_while_another_program_writes(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    told: list[Checkpoint] = []
    server, command = SqliteStore(path, on_audited=told.append), SqliteStore(path)
    for number in range(LENGTH):
        (server, command)[number % 2].note(deed(number))
    assert server.audit_breaks() == (LENGTH, [])
    told.clear()
    server.note(deed(LENGTH))
    (last,) = command.audit(1)
    assert told == [Checkpoint(seq=last.seq, hash=last.hash)], "what is told to the log follows the other's"
    assert last.seq == LENGTH + 1
    for store in (server, command):
        store.close()

"""Verification of the hash chain detects tampering."""

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
    entry_from_json,
    entry_to_json,
    next_entry,
    parse_checkpoint,
    verify,
)
from xds_server.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ATTEMPTS = 1_000
LENGTH = 40


def audit_event(number: int) -> AuditEvent:
    return AuditEvent(
        at=1_000.5 + number,
        actor=f"ada{number % 3}",
        action=("apply", "kill", "abort")[number % 3],
        route="chat",
        reason="wé",
        outcome=Outcome.DONE if number % 5 else Outcome.REFUSED,
        detail="detail",
        via="token 0123456789ab",
        source="127.0.0.1",
        before="" if number % 2 else '{"phase":"Healthy"}',
        after='{"phase":"Progressing","weights":{"v2":5.0}}',
        key=f"k{number}",
        digest="d",
    )


def filled(path: Path) -> Checkpoint:
    """Write a store with an audit log and return its head."""
    store = SqliteStore(path)
    for number in range(LENGTH):
        store.add_audit_event(audit_event(number))
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
        # The following entries move up to hide the gap.
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
def test_a_changed_deleted_or_moved_entry_breaks_the_chain(
    tmp_path: Path, tamper: Callable[[random.Random, sqlite3.Connection], str]
) -> None:
    path = tmp_path / "state.sqlite"
    filled(path)
    rng = random.Random(7)
    store = SqliteStore(path)
    assert store.audit_breaks() == (LENGTH, [])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for _ in range(ATTEMPTS // 3 + 1):
            db.execute("BEGIN")
            what = tamper(rng, db)
            db.execute("COMMIT")
            assert store.audit_breaks()[1], what
            db.execute("DELETE FROM audit")
            db.execute("DELETE FROM audit_head")
            for number in range(LENGTH):
                store.add_audit_event(audit_event(number))
    assert store.audit_breaks() == (LENGTH, [])
    store.close()


def test_verification_does_not_block_writers(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.sqlite")
    for number in range(1_200):
        store.add_audit_event(audit_event(number))

    head = store.head()

    def written_meanwhile() -> Iterator[Checkpoint]:
        # The verification is in progress here; if it held the lock, the writer would block.
        writer = threading.Thread(target=store.add_audit_event, args=(audit_event(7),), daemon=True)
        writer.start()
        writer.join(10)
        assert not writer.is_alive(), "the write waits for the end of the verification"
        yield head

    assert store.audit_breaks(written_meanwhile()) == (1_200, []), (
        "entries added during the verification are not verified"
    )
    store.close()


def test_a_checkpoint_reveals_a_rewritten_chain(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    head = filled(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM audit")
        db.execute("DELETE FROM audit_head")
        db.commit()
    store = SqliteStore(path)
    for number in range(LENGTH):
        store.add_audit_event(audit_event(number if number != 3 else 4))
    assert store.audit_breaks()[1] == [], "the rewritten chain is valid in itself"
    (found,) = store.audit_breaks([head])[1]
    assert "does not match its checkpoint" in found.message
    assert store.audit_breaks([Checkpoint(seq=LENGTH + 5, hash=head.hash)])[1]
    store.close()


def test_entries_survive_a_json_round_trip() -> None:
    entries: list[Entry] = []
    last = Checkpoint(seq=0, hash=GENESIS)
    for number in range(9):
        entries.append(next_entry(audit_event(number), last))
        last = Checkpoint(seq=entries[-1].seq, hash=entries[-1].hash)
    decoded = [entry_from_json(json.loads(json.dumps(entry_to_json(entry)))) for entry in entries]
    assert decoded == entries
    assert list(verify(decoded, last)) == []


def test_an_empty_chain_is_valid_unless_the_head_has_an_entry() -> None:
    assert list(verify([], Checkpoint(seq=0, hash=GENESIS))) == []
    assert list(verify([], Checkpoint(seq=1, hash="x" * 64)))


def test_two_processes_append_to_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    reported: list[Checkpoint] = []
    server, command = SqliteStore(path, on_audited=reported.append), SqliteStore(path)
    for number in range(LENGTH):
        (server, command)[number % 2].add_audit_event(audit_event(number))
    assert server.audit_breaks() == (LENGTH, [])
    reported.clear()
    server.add_audit_event(audit_event(LENGTH))
    (last,) = command.audit(1)
    assert reported == [Checkpoint(seq=last.seq, hash=last.hash)], "it follows the other process's entry"
    assert last.seq == LENGTH + 1
    for store in (server, command):
        store.close()


def test_duplicate_moved_and_missing_entries_are_described_as_such() -> None:
    entries, last = [], Checkpoint(seq=0, hash=GENESIS)
    for number in range(5):
        entries.append(next_entry(audit_event(number), last))
        last = Checkpoint(seq=entries[-1].seq, hash=entries[-1].hash)
    one, two, three, four, five = entries
    twice = list(verify([one, two, three, four, five, five], last))
    assert [found.message for found in twice] == ["entry 5 is stored twice"]
    moved = [found.message for found in verify([one, two, four, three, five], last)]
    assert moved[:2] == [
        "entry 3 is missing between entries 2 and 4: it was removed or moved",
        "entry 3 is stored after entry 4",
    ]
    assert all("moved" in message for message in moved if "missing" in message)
    first = [found.message for found in verify([three, four, five], last)]
    assert first == ["entries 1 to 2 are missing before entry 3: they were removed or moved"]


@pytest.mark.parametrize("text", ["5", "5:abc", f"5:{'A' * 64}", f"x:{GENESIS}"])
def test_an_invalid_checkpoint_is_rejected_with_the_expected_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected NUMBER:HASH .* 64 lowercase hexadecimal digits"):
        parse_checkpoint(text)


@pytest.mark.parametrize("number", ["0", "00"])
def test_the_numbers_of_checkpoints_begin_at_1(number: str) -> None:
    with pytest.raises(ValueError, match="the numbers of checkpoints begin at 1"):
        parse_checkpoint(f"{number}:{GENESIS}")

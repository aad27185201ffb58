"""The SQLite store on a real file, including kill -9."""

from __future__ import annotations

import random
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from xds_server.access.audit import AuditEvent
from xds_server.rollout import (
    Action,
    Command,
    Converged,
    Event,
    Program,
    SetWeight,
    SpecAccepted,
    State,
    step,
)
from xds_server.store import Change, ConflictError, SqliteStore, StoreError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Program(
    stable="v1",
    candidate="v2",
    steps=(SetWeight(weight=500), SetWeight(weight=10_000)),
    convergence_timeout=10.0,
    progress_deadline=100.0,
)


def spec(digest: str = "d") -> SpecAccepted:
    return SpecAccepted(route="chat", program=PROGRAM, digest=digest, actor="test")


class Writer:
    """Advance a rollout and commit each event, as the engine does."""

    def __init__(self, store: SqliteStore, name: str = "chat") -> None:
        self.store, self.name = store, name
        self.state: State | None = None
        self.seq: int | None = None
        self.now = 0.0

    def commit(self, event: Event, text: str | None = None) -> int:
        self.now += 1
        self.state, effects = step(self.state, event, self.now)
        (self.seq,) = self.store.commit(
            Change(
                name=self.name,
                expected=self.seq,
                event=event,
                actor="test",
                at=self.now,
                state=self.state,
                effects=effects,
                text=text,
                file=None if text is None else "chat.yaml",
            )
        )
        return self.seq

    def converge(self) -> int:
        assert self.state is not None
        return self.commit(Converged(revision=self.state.revision, acked=1, connected=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def test_a_reopened_store_returns_the_committed_state(path: Path) -> None:
    store = SqliteStore(path)
    writer = Writer(store)
    writer.commit(spec(), "the text")
    writer.converge()
    store.close()
    reopened = SqliteStore(path)
    (route,) = reopened.load()
    assert (route.name, route.text, route.file, route.seq) == ("chat", "the text", "chat.yaml", writer.seq)
    assert route.state == writer.state
    assert [event.what for event in reopened.history("chat", 10)] == ["accepted", "step_began"]
    assert [event.what for event in reopened.history("chat", 1)] == ["step_began"]
    reopened.close()


def replayed(store: SqliteStore, name: str = "chat") -> State | None:
    state: State | None = None
    for event, at in store.events(name):
        state, _ = step(state, event, at)
    return state


def test_replaying_the_events_gives_the_state(path: Path) -> None:
    store = SqliteStore(path)
    writer = Writer(store)
    writer.commit(spec(), "text")
    for _ in range(3):
        writer.converge()
    writer.commit(Command(command=Action.ABORT, actor="a", reason="ü\n\0"))
    assert replayed(store) == writer.state
    store.close()


def test_the_second_of_two_conflicting_writers_gets_a_conflict_error(path: Path) -> None:
    store, other = SqliteStore(path), SqliteStore(path)
    first = Writer(store)
    first.commit(spec(), "text")
    second = Writer(other)
    second.state, second.seq = first.state, first.seq
    first.converge()
    with pytest.raises(ConflictError, match="was changed in the store meanwhile"):
        second.converge()
    with pytest.raises(ConflictError):
        Writer(other).commit(spec(), "text")
    assert replayed(store) == first.state
    store.close()
    other.close()


def test_threads_can_share_a_store(path: Path) -> None:
    store = SqliteStore(path)
    writers = [Writer(store, f"r{n}") for n in range(4)]

    def work(writer: Writer) -> None:
        writer.commit(spec(), "text")
        for number in range(20):
            writer.commit(spec(f"d{number}"), f"text {number}")

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {route.name: route.state for route in store.load()} == {w.name: w.state for w in writers}
    store.close()


def test_deleting_a_route_keeps_its_history_but_not_its_events_for_replay(path: Path) -> None:
    store = SqliteStore(path)
    Writer(store).commit(spec(), "text")
    store.delete("chat", audit_event=AuditEvent(at=9.0, actor="ada", action="delete", route="chat"))
    assert store.load() == ()
    assert [(event.what, event.actor) for event in store.history("chat", 10)][-1] == ("deleted", "ada")
    recreated = Writer(store)
    recreated.commit(spec("other"), "text")
    assert replayed(store) == recreated.state
    store.close()


def test_a_failed_commit_changes_nothing(path: Path) -> None:
    store = SqliteStore(path)
    writer = Writer(store)
    writer.commit(spec(), "text")
    committed = writer.state
    store.close()
    with pytest.raises(StoreError, match="cannot be written"):
        writer.converge()
    reopened = SqliteStore(path)
    assert reopened.load()[0].state == committed
    reopened.close()


def test_a_store_of_a_newer_version_is_rejected(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="written by a newer version"):
        SqliteStore(path)


def test_a_database_of_another_program_is_rejected(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StoreError, match="a database of another program"):
        SqliteStore(path)


def test_a_file_that_is_not_a_database_is_rejected(path: Path) -> None:
    path.write_bytes(b"certainly not a database" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteStore(path)


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteStore(tmp_path / "no" / "state.sqlite")


COMMIT_FOREVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.store.test_sqlite import Writer, spec
from xds_server.store import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
writer = Writer(store)
for route in store.load():
    writer.state, writer.seq, writer.now = route.state, route.seq, float(route.seq)
for number in range(100_000):
    print(writer.commit(spec(f"{sys.argv[3]}-{number}"), "text"), flush=True)
"""


def test_kill_9_loses_no_committed_event(path: Path) -> None:
    rng = random.Random(7)
    for life in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", COMMIT_FOREVER, str(path), str(ROOT), str(life)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert child.stdout is not None
        committed = 0
        for _ in range(rng.randint(1, 40)):
            committed = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().split()
        child.stdout.close()
        child.wait(10)
        committed = max([committed, *(int(line) for line in rest if line.isdecimal())][:-1] or [committed])
        store = SqliteStore(path)
        (route,) = store.load()
        assert route.seq >= committed
        assert replayed(store) == route.state
        store.close()


def test_a_new_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    store = SqliteStore(path)
    store.add_audit_event(AuditEvent(at=1.0, actor="ada", action="see"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    store.close()
    assert modes == dict.fromkeys(("state.sqlite", "state.sqlite-wal", "state.sqlite-shm"), 0o600)


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    SqliteStore(path).close()
    path.chmod(0o640)
    SqliteStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640

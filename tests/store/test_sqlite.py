"""The store on a real file, kill -9 included."""

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
    """Lets a rollout happen and keeps it, as the engine does."""

    def __init__(self, store: SqliteStore, name: str = "chat") -> None:
        self.store, self.name = store, name
        self.state: State | None = None
        self.seq: int | None = None
        self.now = 0.0

    def tell(self, event: Event, text: str | None = None) -> int:
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
        return self.tell(Converged(revision=self.state.revision, acked=1, connected=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def test_what_was_kept_is_there_again(path: Path) -> None:
    store = SqliteStore(path)
    writer = Writer(store)
    writer.tell(spec(), "the text")
    writer.converge()
    store.close()
    again = SqliteStore(path)
    (route,) = again.load()
    assert (route.name, route.text, route.file, route.seq) == ("chat", "the text", "chat.yaml", writer.seq)
    assert route.state == writer.state
    assert [e.what for e in again.history("chat", 10)] == ["accepted", "step_began"]
    assert [e.what for e in again.history("chat", 1)] == ["step_began"]
    again.close()


def replayed(store: SqliteStore, name: str = "chat") -> State | None:
    state: State | None = None
    for event, at in store.events(name):
        state, _ = step(state, event, at)
    return state


def test_replaying_the_events_gives_the_state(path: Path) -> None:
    store = SqliteStore(path)
    writer = Writer(store)
    writer.tell(spec(), "text")
    for _ in range(3):
        writer.converge()
    writer.tell(Command(command=Action.ABORT, actor="a", reason="ü\n\0"))
    assert replayed(store) == writer.state
    store.close()


def test_of_two_writers_one_loses_and_knows_it(path: Path) -> None:
    store, other = SqliteStore(path), SqliteStore(path)
    first = Writer(store)
    first.tell(spec(), "text")
    second = Writer(other)
    second.state, second.seq = first.state, first.seq
    first.converge()
    with pytest.raises(ConflictError, match="somebody changed it first"):
        second.converge()
    with pytest.raises(ConflictError):
        Writer(other).tell(spec(), "text")
    assert replayed(store) == first.state
    store.close()
    other.close()


def test_threads_take_turns(path: Path) -> None:
    store = SqliteStore(path)
    writers = [Writer(store, f"r{n}") for n in range(4)]

    def work(writer: Writer) -> None:
        writer.tell(spec(), "text")
        for number in range(20):
            writer.tell(spec(f"d{number}"), f"text {number}")

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {route.name: route.state for route in store.load()} == {w.name: w.state for w in writers}
    store.close()


def test_deleting_keeps_the_history_and_begins_a_new_replay(path: Path) -> None:
    store = SqliteStore(path)
    Writer(store).tell(spec(), "text")
    store.delete("chat", deed=AuditEvent(at=9.0, actor="somebody", action="delete", route="chat"))
    assert store.load() == ()
    assert [(e.what, e.actor) for e in store.history("chat", 10)][-1] == ("deleted", "somebody")
    again = Writer(store)
    again.tell(spec("other"), "text")
    assert replayed(store) == again.state
    store.close()


def test_a_failed_commit_leaves_nothing(path: Path) -> None:
    store = SqliteStore(path)
    writer = Writer(store)
    writer.tell(spec(), "text")
    good = writer.state
    store.close()
    with pytest.raises(StoreError, match="cannot be written"):
        writer.converge()
    again = SqliteStore(path)
    assert again.load()[0].state == good
    again.close()


def test_a_newer_format_is_refused(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="written by a newer version"):
        SqliteStore(path)


def test_somebody_elses_database_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StoreError, match="something else"):
        SqliteStore(path)


def test_what_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"certainly not a database" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteStore(path)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteStore(tmp_path / "no" / "state.sqlite")


COMMIT_FOR_EVER = """
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
    print(writer.tell(spec(f"{sys.argv[3]}-{number}"), "text"), flush=True)
"""


def test_kill_9_loses_nothing_that_was_kept(path: Path) -> None:
    chance = random.Random(7)
    for life in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", COMMIT_FOR_EVER, str(path), str(ROOT), str(life)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert child.stdout is not None
        kept = 0
        for _ in range(chance.randint(1, 40)):
            kept = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().split()
        child.stdout.close()
        child.wait(10)
        kept = max([kept, *(int(line) for line in rest if line.isdecimal())][:-1] or [kept])
        store = SqliteStore(path)
        (route,) = store.load()
        assert route.seq >= kept
        assert replayed(store) == route.state
        store.close()


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    store = SqliteStore(path)
    store.note(AuditEvent(at=1.0, actor="ada", action="see"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    store.close()
    assert modes == dict.fromkeys(("state.sqlite", "state.sqlite-wal", "state.sqlite-shm"), 0o600)


def test_the_mode_somebody_gave_a_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    SqliteStore(path).close()
    path.chmod(0o640)
    SqliteStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640

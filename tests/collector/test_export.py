"""Pairs leave the store as files, and are measured again after the comparison has changed."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

from click.testing import CliRunner

from mirror_collector.cli import main
from mirror_collector.compare import VERSION, Counts
from mirror_collector.exchange import Pair, Role
from mirror_collector.serve import summary_view
from mirror_collector.store import Database, Keep, Privacy, Reader, RoutePrivacy, StoreLimits
from tests.collector.builders import chat_json, chat_stream, leg

if TYPE_CHECKING:
    from pathlib import Path

    from mirror_collector.store import Location


def filled(location: Location, *, keep: Keep = Keep.BODIES) -> None:
    privacy = Privacy(default=RoutePrivacy(keep=keep))
    stream = chat_stream(["bye ", "then"])
    pairs = [
        Pair(primary=leg(Role.PRIMARY, "a"), shadow=leg(Role.SHADOW, "a", chat_json("hello there"))),
        Pair(
            primary=leg(Role.PRIMARY, "b"),
            shadow=leg(Role.SHADOW, "b", stream, content_type="text/event-stream"),
            noise=leg(Role.NOISE, "b", chat_json("hello world!")),
        ),
        Pair(primary=leg(Role.PRIMARY, "c"), shadow=leg(Role.SHADOW, "c", b"no", status=503)),
    ]
    with closing(Database(location, StoreLimits(), privacy)) as database:
        database.write(pairs, Counts(), 1_700_000_000.0)


def test_json_lines(tmp_path: Path) -> None:
    store = tmp_path / "pairs.sqlite"
    filled(store)
    result = CliRunner().invoke(main, ["export", "--store", str(store)])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["request_id"] for row in rows] == ["a", "b", "c"]
    assert (rows[1]["shadow_text"], rows[1]["noise_text"]) == ("bye then", "hello world!")
    assert rows[2]["flags"] == ["failed"]
    figures = CliRunner().invoke(
        main, ["export", "--store", str(store), "--without-messages", "--route", "chat"]
    )
    assert "hello" not in figures.stdout
    assert "3 pairs written" in figures.stderr


def test_parquet(tmp_path: Path) -> None:
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    store, out = tmp_path / "pairs.sqlite", tmp_path / "pairs.parquet"
    filled(store)
    done = CliRunner().invoke(
        main, ["export", "--store", str(store), "--format", "parquet", "--output", str(out)]
    )
    assert done.exit_code == 0, done.output
    rows = parquet.read_table(out).to_pylist()
    assert [row["primary_variant"] for row in rows] == ["v1"] * 3
    assert rows[0]["rouge_l"] == 0.5
    assert rows[0]["exact"] is False


def test_measured_again_they_say_the_same(location: Location) -> None:
    filled(location)
    with closing(Database(location, StoreLimits())) as database, closing(Reader(location)) as reader:
        before = summary_view(database.ledger)
        listed = reader.pair(2)
        evidence = [block.counts for block in reader.evidence(0)]
        database._engine.run("UPDATE pairs SET comparator = 1, flags = 0, similarity = 0.5")
        database._engine.run("DELETE FROM pair_tallies")
        done = database.recompare(reader, lambda _count: None)
        assert (done.measured, done.without_messages) == (3, 0)
        after = reader.pair(2)
        assert listed is not None
        assert after is not None
        assert after.listed["flags"] == listed.listed["flags"]
        assert after.listed["comparison"]["floor"] == listed.listed["comparison"]["floor"]
        assert database._engine.rows("SELECT DISTINCT comparator FROM pairs") == [(VERSION,)]
        assert [block.counts for block in reader.evidence(0)] == evidence
        assert summary_view(database.ledger) == before


def test_what_was_not_kept_is_not_measured_again(location: Location) -> None:
    filled(location, keep=Keep.NONE)
    with closing(Database(location, StoreLimits())) as database, closing(Reader(location)) as reader:
        done = database.recompare(reader, lambda _count: None)
    assert (done.measured, done.without_messages) == (0, 3)


def test_the_commands_on_a_store_that_is_not_there_or_in_use(tmp_path: Path) -> None:
    missing = CliRunner().invoke(main, ["export", "--store", str(tmp_path / "none.sqlite")])
    assert (missing.exit_code, "there is no store" in missing.output) == (1, True)
    assert not (tmp_path / "none.sqlite").exists()
    store = tmp_path / "pairs.sqlite"
    filled(store)
    assert "3 pairs measured again" in CliRunner().invoke(main, ["recompare", "--store", str(store)]).output
    with closing(Database(store, StoreLimits())):
        busy = CliRunner().invoke(main, ["recompare", "--store", str(store)])
        assert "another process uses it" in busy.output
        assert CliRunner().invoke(main, ["export", "--store", str(store)]).exit_code == 0
    gone = CliRunner().invoke(main, ["forget", "--store", str(store), "--request-id", "a"])
    assert "1 pairs" in gone.output
    both = CliRunner().invoke(main, ["forget", "--store", str(store)])
    assert both.exit_code == 2

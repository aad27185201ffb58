"""Export of pairs, and comparison of stored pairs with a new version of the comparison."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mirror_collector.cli import main
from mirror_collector.compare import VERSION, LegCounts
from mirror_collector.exchange import Pair, Role
from mirror_collector.serve import summary_view
from mirror_collector.store import (
    MessageStorage,
    PrivacyPolicy,
    RoutePrivacyPolicy,
    StoreLimits,
    StoreReader,
    StoreWriter,
)
from tests.collector.builders import chat_json, chat_stream, leg

if TYPE_CHECKING:
    from pathlib import Path

    from mirror_collector.store import Location


def fill_store(location: Location, *, storage: MessageStorage = MessageStorage.BODIES) -> None:
    privacy = PrivacyPolicy(default=RoutePrivacyPolicy(storage=storage))
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
    with closing(StoreWriter(location, StoreLimits(), privacy)) as writer:
        writer.write(pairs, LegCounts(), 1_700_000_000.0)


def test_export_as_json_lines(tmp_path: Path) -> None:
    store = tmp_path / "pairs.sqlite"
    fill_store(store)
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


def test_export_as_parquet(tmp_path: Path) -> None:
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    store, out = tmp_path / "pairs.sqlite", tmp_path / "pairs.parquet"
    fill_store(store)
    result = CliRunner().invoke(
        main, ["export", "--store", str(store), "--format", "parquet", "--output", str(out)]
    )
    assert result.exit_code == 0, result.output
    rows = parquet.read_table(out).to_pylist()
    assert [row["primary_variant"] for row in rows] == ["v1"] * 3
    assert rows[0]["rouge_l"] == 0.5
    assert rows[0]["exact"] is False


def test_comparing_stored_pairs_again_gives_the_same_results(location: Location) -> None:
    fill_store(location)
    with closing(StoreWriter(location, StoreLimits())) as writer, closing(StoreReader(location)) as reader:
        before = summary_view(writer.totals)
        listed = reader.pair(2)
        evidence = [block.counts for block in reader.evidence(0)]
        writer._connection.execute("UPDATE pairs SET comparator = 1, flags = 0, similarity = 0.5")
        writer._connection.execute("DELETE FROM pair_tallies")
        result = writer.recompare(reader, lambda _count: None)
        assert (result.measured, result.without_messages) == (3, 0)
        after = reader.pair(2)
        assert listed is not None
        assert after is not None
        assert after.summary["flags"] == listed.summary["flags"]
        assert after.summary["comparison"]["floor"] == listed.summary["comparison"]["floor"]
        assert writer._connection.query("SELECT DISTINCT comparator FROM pairs") == [(VERSION,)]
        assert [block.counts for block in reader.evidence(0)] == evidence
        assert summary_view(writer.totals) == before


def test_pairs_without_messages_are_not_compared_again(location: Location) -> None:
    fill_store(location, storage=MessageStorage.NONE)
    with closing(StoreWriter(location, StoreLimits())) as writer, closing(StoreReader(location)) as reader:
        result = writer.recompare(reader, lambda _count: None)
    assert (result.measured, result.without_messages) == (0, 3)


def test_commands_on_a_missing_store_and_a_locked_store(tmp_path: Path) -> None:
    missing = CliRunner().invoke(main, ["export", "--store", str(tmp_path / "none.sqlite")])
    assert (missing.exit_code, "no store found" in missing.output) == (1, True)
    assert not (tmp_path / "none.sqlite").exists()
    store = tmp_path / "pairs.sqlite"
    fill_store(store)
    assert "3 pairs compared again" in CliRunner().invoke(main, ["recompare", "--store", str(store)]).output
    with closing(StoreWriter(store, StoreLimits())):
        busy = CliRunner().invoke(main, ["recompare", "--store", str(store)])
        assert "another process writes to this store" in busy.output
        assert CliRunner().invoke(main, ["export", "--store", str(store)]).exit_code == 0
    gone = CliRunner().invoke(main, ["forget", "--store", str(store), "--request-id", "a"])
    assert "pairs 1" in gone.output
    wrong = CliRunner().invoke(main, ["forget", "--store", str(tmp_path / "none.sqlite"), "--unit", "ada"])
    assert (wrong.exit_code, "no store found" in wrong.output) == (1, True)
    assert not (tmp_path / "none.sqlite").exists()
    both = CliRunner().invoke(main, ["forget", "--store", str(store)])
    assert both.exit_code == 2


@pytest.mark.parametrize(
    ("version", "message"), [(3, "start the collector of this release"), (9, "newer than version")]
)
def test_the_export_of_another_schema_version_names_the_next_step(
    tmp_path: Path, version: int, message: str
) -> None:
    store = tmp_path / "pairs.sqlite"
    fill_store(store)
    with closing(sqlite3.connect(store)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    result = CliRunner().invoke(main, ["export", "--store", str(store)])
    assert (result.exit_code, message in result.output) == (1, True)
    assert f"schema version {version}" in result.output

"""A store written by an earlier release opens with its pairs and totals, and accepts new pairs."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mirror_collector.compare import VERSION, EvidenceBlock, LegCounts, PairTotals
from mirror_collector.exchange import Pair, Role
from mirror_collector.serve.views import experiment_view, feedback_view, pair_view, summary_view
from mirror_collector.store import StoreLimits, StoreReader, StoreWriter
from tests.collector.builders import leg

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parent / "data"
EXPECTED: dict[str, Any] = json.loads((DATA / "store-schema-4.json").read_text(encoding="utf-8"))
NOW = 1_700_000_200.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A SQLite file as release 0.1.0 left it."""
    path = tmp_path / "pairs.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((DATA / "store-schema-4.sql").read_text(encoding="utf-8"))
    return path


@pytest.fixture
def writer(path: Path) -> Iterator[StoreWriter]:
    with closing(StoreWriter(path, StoreLimits())) as writer:
        yield writer


@pytest.fixture
def reader(writer: StoreWriter, path: Path) -> Iterator[StoreReader]:
    del writer
    with closing(StoreReader(path)) as reader:
        yield reader


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_the_identity_of_the_store_is_unchanged(writer: StoreWriter) -> None:
    assert (writer.store_id, writer.evidence_seq) == (EXPECTED["name"], EXPECTED["seq"])


LEG_COUNTS = ("route", "pairs", "paired", "without_noise", "legs", "unpaired", "waiting")
NUMBERS = ("pairs", "trios", "limited", "client_left", "failed")


def test_counts_of_legs_are_unchanged_except_for_waiting_legs(writer: StoreWriter) -> None:
    summary = as_json(summary_view(writer.totals))
    expected = json.loads(json.dumps(EXPECTED["summary"]))
    for route in expected["routes"]:
        if route["waiting"]:
            route["unpaired"] = {**route["unpaired"], "restart": route["waiting"]}
            route["waiting"] = 0
    assert summary["dropped"] == expected["dropped"]
    assert [[route[name] for name in LEG_COUNTS] for route in summary["routes"]] == [
        [route[name] for name in LEG_COUNTS] for route in expected["routes"]
    ]


def test_totals_of_an_earlier_comparison_stay_stored_and_are_not_added_up(writer: StoreWriter) -> None:
    assert [route["comparisons"] for route in summary_view(writer.totals)["routes"]] == [[], []]
    stored = writer._connection.query("SELECT DISTINCT comparator FROM pair_tallies")
    assert stored == [(EXPECTED["evidence"][0]["comparator"],)]
    (text,) = writer._connection.query("SELECT tally FROM pair_tallies WHERE route = 'chat'")[0]
    totals = PairTotals.from_json(json.loads(text))
    assert (totals.pairs, totals.coverage) == (6, {})
    assert PairTotals.from_json(as_json(totals.to_json())) == totals


def test_evidence_of_an_earlier_comparison_names_no_api(reader: StoreReader) -> None:
    blocks = [EvidenceBlock.from_json(block.counts) for block in reader.evidence(0)]
    assert blocks
    assert all(block.pairs and not block.apis for block in blocks)


def test_pairs_are_unchanged(reader: StoreReader) -> None:
    stored = [reader.pair(number) for number in range(1, 8)]
    assert [as_json(pair_view(pair)) for pair in stored if pair is not None] == EXPECTED["pairs"]


def test_evidence_experiments_and_feedback_are_unchanged(reader: StoreReader) -> None:
    assert as_json([dataclasses.asdict(block) for block in reader.evidence(0)]) == EXPECTED["evidence"]
    assert as_json([experiment_view(one) for one in reader.exposures(None, None)]) == EXPECTED["exposures"]
    assert as_json([feedback_view(one) for one in reader.feedback(None)]) == EXPECTED["feedback"]


def test_new_pairs_add_to_the_old_totals(writer: StoreWriter, reader: StoreReader) -> None:
    before = {route["route"]: route for route in summary_view(writer.totals)["routes"]}
    old = Pair(primary=leg(Role.PRIMARY, "r1"), shadow=leg(Role.SHADOW, "r1"))
    new = Pair(primary=leg(Role.PRIMARY, "r8"), shadow=leg(Role.SHADOW, "r8"))
    _, stored = writer.write([old, new], LegCounts(), NOW)
    assert [one.pair_id for one in stored] == [8], "the pair of r1 is stored already"
    chat = next(route for route in summary_view(writer.totals)["routes"] if route["route"] == "chat")
    assert chat["pairs"] == before["chat"]["pairs"] + 1
    assert chat["unpaired"]["stored_before"] == 2
    assert writer.evidence_seq == EXPECTED["seq"] + 1
    assert [block.counts["pairs"] for block in reader.evidence(EXPECTED["seq"])] == [1]


def test_a_user_of_an_earlier_comparison_counts_once_in_the_new_one(
    path: Path, writer: StoreWriter, reader: StoreReader
) -> None:
    def write(writer: StoreWriter, name: str) -> list[int]:
        seq = writer.evidence_seq
        primary = dataclasses.replace(leg(Role.PRIMARY, name), unit="ada")
        writer.write([Pair(primary=primary, shadow=leg(Role.SHADOW, name))], LegCounts(), NOW)
        (block,) = reader.evidence(seq)
        return [block.counts["counted"], block.counts["repeated"]]

    # The evidence of the earlier comparison is not added up, so it must not count as seen either.
    assert write(writer, "r8") == [1, 0]
    assert write(writer, "r9") == [1, 1]
    writer.close()
    with closing(StoreWriter(path, StoreLimits())) as reopened:
        assert write(reopened, "r10") == [1, 2]


def test_data_of_a_user_can_be_deleted(writer: StoreWriter) -> None:
    deleted = writer.forget(unit="ada")
    assert (deleted["pairs"], deleted["exposures"], deleted["outcomes"]) == (2, 1, 1)


def test_stored_pairs_can_be_compared_again(writer: StoreWriter, reader: StoreReader) -> None:
    result = writer.recompare(reader, lambda _done: None)
    after = summary_view(writer.totals)["routes"]
    assert (result.measured, result.without_messages) == (7, 0)
    assert [[route[name] for name in NUMBERS] for route in after] == [
        [route[name] for name in NUMBERS] for route in EXPECTED["summary"]["routes"]
    ]
    assert [sorted(route["apis"]) for route in after] == [["chat"], ["chat"]]
    versions = {block.comparator: block for block in reader.evidence(0)}
    assert sorted(versions) == [EXPECTED["evidence"][0]["comparator"], VERSION]

"""The store writes pairs and totals together, each pair once, within its limits."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from mirror_collector.compare import LegCounts
from mirror_collector.exchange import Leg, Pair, Role, RouteName, UnpairedReason
from mirror_collector.serve import pair_view, summary_view
from mirror_collector.store import (
    Location,
    Order,
    PairQuery,
    Store,
    StoreError,
    StoreLimits,
    StoreReader,
    StoreWriter,
)
from mirror_collector.store.reader import Cursor
from mirror_collector.store.sqlite import SqliteConnection
from tests.collector.builders import chat_json, leg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHAT = RouteName("chat")
NOW = 1_700_000_100.0


def make_pair(name: str, text: str = "hello world", **shadow: Any) -> Pair:
    return Pair(
        primary=leg(Role.PRIMARY, name), shadow=leg(Role.SHADOW, name, body=chat_json(text), **shadow)
    )


def leg_counts(*legs: Leg) -> LegCounts:
    counts = LegCounts()
    for each in legs:
        counts.legs[each.route, each.role] += 1
    return counts


def counts_of(*pairs: Pair) -> LegCounts:
    return leg_counts(*(each for pair in pairs for each in (pair.primary, pair.shadow)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "pairs.sqlite"


@pytest.fixture
def writer(location: Location) -> Iterator[StoreWriter]:
    with closing(StoreWriter(location, StoreLimits(retention=100.0))) as opened:
        yield opened


@pytest.fixture
def reader(writer: StoreWriter, location: Location) -> Iterator[StoreReader]:
    del writer  # The writer creates the tables.
    with closing(StoreReader(location)) as opened:
        yield opened


@pytest.fixture
def file_writer(path: Path) -> Iterator[StoreWriter]:
    with closing(StoreWriter(path, StoreLimits(retention=100.0))) as opened:
        yield opened


@pytest.fixture
def file_reader(file_writer: StoreWriter, path: Path) -> Iterator[StoreReader]:
    del file_writer
    with closing(StoreReader(path)) as opened:
        yield opened


def sqlite_connection(writer: StoreWriter) -> sqlite3.Connection:
    assert isinstance(writer._connection, SqliteConnection)
    return writer._connection.raw


def route_summary(writer: StoreWriter) -> dict[str, Any]:
    view: dict[str, Any] = summary_view(writer.totals)["routes"][0]
    return view


def test_a_pair_is_stored_with_its_bodies(writer: StoreWriter, reader: StoreReader) -> None:
    pair = make_pair("r1", "bye")
    writer.write([pair], counts_of(pair), NOW)
    stored = reader.pair(1)
    assert stored is not None
    view = pair_view(stored)
    assert (view["id"], view["request_id"], view["stored_at"]) == ("1", "r1", NOW)
    assert view["primary"]["reply"]["text"] == "hello world"
    assert json.loads(view["primary"]["response"]["text"])["text"] == "hello world"
    assert view["shadow"]["reply"]["text"] == "bye"
    assert view["shadow"]["request"]["base64"] == "e30="
    assert view["comparison"]["exact"] is False
    assert reader.pair(2) is None


def test_a_pair_is_stored_and_counted_once(writer: StoreWriter, reader: StoreReader) -> None:
    pair, second_pair = make_pair("r1"), make_pair("r2")
    writer.write([pair, pair], counts_of(pair, pair), NOW)
    writer.write([pair, second_pair], counts_of(pair, second_pair), NOW)
    summary = route_summary(writer)
    assert (summary["pairs"], summary["unpaired"], summary["waiting"]) == (2, {"stored_before": 4}, 0)
    assert summary["agreement"]["exact"] == {"same": 2, "of": 2}
    assert len(reader.page(PairQuery()).pairs) == 2


def test_totals_survive_a_restart(location: Location) -> None:
    pair, alone = make_pair("r1", "bye"), leg(Role.PRIMARY, "r9")
    lost = leg_counts(alone)
    lost.unpaired[CHAT, UnpairedReason.NO_SHADOW] += 1
    lost.drops["queue_full"] += 7
    with closing(StoreWriter(location, StoreLimits())) as first:
        first.write([pair], counts_of(pair), NOW)
        first.write([], lost, NOW)
        before = summary_view(first.totals)
    with closing(StoreWriter(location, StoreLimits())) as second:
        assert summary_view(second.totals) == before
    assert before["dropped"] == {"queue_full": 7}
    assert before["routes"][0]["unpaired"] == {"no_shadow": 1}


def test_legs_lost_in_a_crash_are_counted_at_the_next_start(location: Location) -> None:
    with closing(StoreWriter(location, StoreLimits())) as first:
        first.write([], leg_counts(leg(Role.PRIMARY), leg(Role.SHADOW, "r2")), NOW)
    for _ in range(2):
        with closing(StoreWriter(location, StoreLimits())) as later:
            assert (route_summary(later)["unpaired"], route_summary(later)["waiting"]) == ({"restart": 2}, 0)


def test_a_failed_write_changes_nothing(file_writer: StoreWriter, file_reader: StoreReader) -> None:
    writer, reader = file_writer, file_reader
    pair, second_pair = make_pair("r1"), make_pair("r2", "x" * 200_000)
    writer.write([pair], counts_of(pair), NOW)
    before = summary_view(writer.totals)
    pages = sqlite_connection(writer).execute("PRAGMA page_count").fetchone()[0]
    sqlite_connection(writer).execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="full"):
        writer.write([second_pair], counts_of(second_pair), NOW)
    assert summary_view(writer.totals) == before
    assert len(reader.page(PairQuery()).pairs) == 1
    sqlite_connection(writer).execute("PRAGMA max_page_count = 1000000")
    writer.write([second_pair], counts_of(second_pair), NOW)
    assert route_summary(writer)["pairs"] == 2


def test_pages_with_newest_pairs_first(writer: StoreWriter, reader: StoreReader) -> None:
    pairs = [make_pair(f"r{n}") for n in range(7)]
    writer.write(pairs, counts_of(*pairs), NOW)
    assert read_pages(reader, PairQuery(limit=3)) == [["r6", "r5", "r4"], ["r3", "r2", "r1"], ["r0"]]


def test_pages_with_worst_pairs_first(writer: StoreWriter, reader: StoreReader) -> None:
    texts = ["hello world", "hello", "bye", "hello there world", "bye bye"]
    pairs = [make_pair(f"r{n}", text) for n, text in enumerate(texts)]
    pairs.append(make_pair("r5", client_left=True))
    writer.write(pairs, counts_of(*pairs), NOW)
    assert read_pages(reader, PairQuery(order=Order.WORST, limit=2)) == [["r4", "r2"], ["r1", "r3"], ["r0"]]


def test_pages_of_one_route(writer: StoreWriter, reader: StoreReader) -> None:
    other = Pair(primary=leg(Role.PRIMARY, route="code"), shadow=leg(Role.SHADOW, route="code"))
    writer.write([make_pair("r1"), other, make_pair("r2")], LegCounts(), NOW)
    assert read_pages(reader, PairQuery(route="chat", limit=1)) == [["r2"], ["r1"]]
    assert read_pages(reader, PairQuery(route="chat", limit=1, order=Order.WORST)) == [["r2"], ["r1"]]
    assert read_pages(reader, PairQuery(route="none")) == [[]]


def read_pages(reader: StoreReader, query: PairQuery) -> list[list[str]]:
    pages: list[list[str]] = []
    before: Cursor | None = None
    while True:
        page = reader.page(PairQuery(route=query.route, order=query.order, limit=query.limit, before=before))
        pages.append([listed["request_id"] for listed in page.pairs])
        if page.next_cursor is None:
            return pages
        before = Cursor.parse(str(page.next_cursor), query.order)


@pytest.mark.parametrize("text", ["", "x", "-1", "1:2", str(1 << 63), "0.5:", "nan:1", "9" * 5000])
def test_invalid_cursors(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Cursor.parse(text, Order.NEWEST if text != "nan:1" else Order.WORST)


def test_expired_pairs_are_deleted_and_totals_stay(writer: StoreWriter, reader: StoreReader) -> None:
    old = [make_pair(f"old{n}") for n in range(150)]
    writer.write(old, counts_of(*old), NOW)
    writer.write([make_pair("new")], counts_of(make_pair("new")), NOW + 60)
    deleted = [
        writer.delete_expired(NOW + 120),
        writer.delete_expired(NOW + 120),
        writer.delete_expired(NOW + 120),
    ]
    assert deleted == [100, 50, 0]
    assert [listed["request_id"] for listed in reader.page(PairQuery()).pairs] == ["new"]
    assert reader._connection.query("SELECT count(*) FROM legs") == [(2,)]
    assert route_summary(writer)["pairs"] == 151


async def test_the_oldest_pairs_are_deleted_at_the_size_limit(path: Path) -> None:
    store = await Store.open(path, StoreLimits(max_size=1 << 20))
    try:
        for n in range(120):
            pair = make_pair(f"r{n}", f"{n} " + "x" * 20_000)
            await store.write([pair], counts_of(pair), NOW)
            assert store.size <= 1 << 20
        page = await store.page(PairQuery(limit=500))
        assert page.pairs[0]["request_id"] == "r119"
        assert 1 < len(page.pairs) < 120
        assert store.totals.routes[CHAT].pairs == 120
    finally:
        await store.close()


async def test_a_full_disk_loses_pairs_but_no_counts(path: Path) -> None:
    store = await Store.open(path, StoreLimits())
    try:
        writer = store._writer
        limit = "PRAGMA max_page_count = {}"
        await _run_in_writer_thread(store, lambda: sqlite_connection(writer).execute(limit.format(1)))
        big = make_pair("r1", "x" * 500_000)
        await store.write([big], counts_of(big), NOW)
        assert store.failure is not None
        totals = store.totals.routes[CHAT]
        assert (totals.legs.total(), totals.pairs, totals.unpaired) == (
            2,
            0,
            {UnpairedReason.STORE_FAILED: 2},
        )
        assert store.totals.drops == {"store_failed": 2}

        await _run_in_writer_thread(store, lambda: sqlite_connection(writer).execute(limit.format(100_000)))
        small = make_pair("r2")
        await store.write([small], counts_of(small), NOW)
        assert store.failure is None
    finally:
        await store.close()
    with closing(StoreWriter(path, StoreLimits())) as again:
        assert route_summary(again)["unpaired"] == {"store_failed": 2}
        assert route_summary(again)["pairs"] == 1
        assert again.totals.drops == {"store_failed": 2}


async def _run_in_writer_thread(store: Store, call: Any) -> None:
    await asyncio.get_running_loop().run_in_executor(store._write_thread, call)


def test_a_second_writer_is_rejected(writer: StoreWriter, location: Location) -> None:
    del writer
    with pytest.raises(StoreError, match="another process"):
        StoreWriter(location, StoreLimits())


def test_foreign_files_are_rejected(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match="not a database"):
        StoreWriter(text, StoreLimits())

    newer = tmp_path / "newer.sqlite"
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="version 99"):
        StoreWriter(newer, StoreLimits())

    foreign = tmp_path / "foreign.sqlite"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE pairs (x)")
    with pytest.raises(StoreError, match="a database of another program"):
        StoreWriter(foreign, StoreLimits())

    with pytest.raises(StoreError, match="cannot open"):
        StoreWriter(text / "below-a-file" / "x.sqlite", StoreLimits())


async def test_opening_an_invalid_store_leaves_no_threads(tmp_path: Path) -> None:
    (tmp_path / "dir.sqlite").mkdir()
    with pytest.raises(StoreError):
        await Store.open(tmp_path / "dir.sqlite", StoreLimits())

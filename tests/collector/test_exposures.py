"""A/B tests: exposures, conversions and feedback, stored without names of users."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mirror_collector.compare import LegCounts
from mirror_collector.exchange import (
    Conversion,
    Exposure,
    ExposureCounts,
    Pair,
    Role,
    RouteName,
    Variant,
    parse_entry,
)
from mirror_collector.receive.outcomes import parse_outcomes
from mirror_collector.store import Location, Store, StoreLimits
from mirror_collector.store.codec import leg_document
from mirror_collector.wire import accesslog_pb2 as wire
from tests.collector import builders


def exposure(unit: str, variant: str = "v2", experiment: str = "tone") -> Exposure:
    return Exposure(route=RouteName("chat"), experiment=experiment, variant=Variant(variant), unit=unit)


def entry(**fields: str) -> bytes:
    message = wire.HTTPAccessLogEntry()
    message.common_properties.upstream_cluster = "chat/v2"
    captured = message.common_properties.metadata.filter_metadata["shiftplane.capture"].fields
    for name, value in {"route": "chat", "role": "primary", **fields}.items():
        captured[name].string_value = value.encode()
    return bytes(message.SerializeToString())


def test_an_entry_without_start_time_is_an_exposure() -> None:
    unit = base64.b64encode("ädä".encode()).decode()
    assert parse_entry(entry(experiment="tone", unit=unit)) == exposure("ädä")
    assert parse_entry(entry(experiment="tone")) == exposure("")


async def test_units_and_requests_are_counted_by_variant(location: Location) -> None:
    store = await Store.open(location, StoreLimits(exposure_retention=100.0))
    for batch in (["ada", "ada", "bob", ""], ["ada", "eve"]):
        counts = ExposureCounts()
        for unit in batch:
            counts.add(exposure(unit))
        await store.write_exposures(counts, 1_000.0)
    counts = ExposureCounts()
    counts.add(exposure("ada", "v1"))
    counts.add(exposure("ada", "v1", "other test"))
    await store.write_exposures(counts, 1_050.0)
    other, tone = await store.exposures("chat", None)
    assert (other.experiment, other.variants) == ("other test", {"v1": (1, 1)})
    assert tone.variants == {"v1": (1, 1), "v2": (3, 5)}
    assert (tone.crossovers, tone.without_unit) == (1, 1)
    assert await store.exposures("other", None) == []
    await store.delete_expired(1_120.0)
    assert [e.variants for e in await store.exposures("chat", "tone")] == [{"v1": (1, 1)}]
    await store.close()


async def test_unit_names_are_not_stored(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "pairs.sqlite", StoreLimits())
    counts = ExposureCounts()
    counts.add(exposure("ada lovelace"))
    await store.write_exposures(counts, 1_000.0)
    outcomes = parse_outcomes({"route": "chat", "metric": "thumbs", "unit": "ada lovelace", "value": True})
    await store.write_outcomes([outcome("ada lovelace")], outcomes.feedback, 1_000.0)
    await store.close()
    assert all(b"ada lovelace" not in file.read_bytes() for file in files(tmp_path))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


def test_exposure_counts_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror_collector.exchange.exposure._MAX_ENTRIES", 2)
    counts = ExposureCounts()
    for unit in ("a", "b", "c", "a"):
        counts.add(exposure(unit))
    assert (counts.requests.total(), counts.dropped) == (3, 1)


def create_old_store(path: Path, *more: str) -> None:
    """Create a store of an earlier schema that contains one pair."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript((Path(__file__).parent / "data/store-schema-3.sql").read_text(encoding="utf-8"))
        db.executescript(";".join(more))
        leg = json.dumps(leg_document(builders.leg()))
        db.execute(
            "INSERT INTO pairs (route, request_id, started_at, stored_at, similarity, summary)"
            " VALUES ('chat', 'r1', 1.0, 2.0, 1.0, '{}')"
        )
        for role in ("primary", "shadow"):
            body = builders.chat_json("hello")
            db.execute("INSERT INTO legs VALUES (1, ?, ?, ?, ?)", (role, leg, b"{}", body))
        db.commit()


@pytest.mark.parametrize(
    "before",
    [
        (),
        ("DROP TABLE outcomes", "PRAGMA user_version = 2"),
        *([("DROP TABLE outcomes", "DROP TABLE exposures", "DROP TABLE secrets", "PRAGMA user_version = 1")]),
    ],
)
async def test_a_store_of_an_earlier_schema_is_migrated(tmp_path: Path, before: tuple[str, ...]) -> None:
    path = tmp_path / "pairs.sqlite"
    create_old_store(path, *before)
    store = await Store.open(path, StoreLimits())
    assert await store.exposures(None, None) == []
    await store.write_outcomes([outcome("ada")], [], 1.0)
    stored = await store.pair(1)
    assert stored is not None
    reply = stored.legs["shadow"].reply
    assert reply is not None
    assert reply.text == "hello"
    pair = Pair(primary=builders.leg(), shadow=builders.leg(Role.SHADOW))
    assert await store.write([pair], LegCounts(), 3.0) == [], "the pair is stored already"
    again = Pair(primary=builders.leg(request_id="r2"), shadow=builders.leg(Role.SHADOW, "r2"))
    assert [one.pair_id for one in await store.write([again], LegCounts(), 3.0)] == [2]
    await store.close()


def outcome(unit: str, metric: str = "purchase") -> Conversion:
    return Conversion(route=RouteName("chat"), metric=metric, unit=unit)


async def test_conversions_are_joined_to_variants_by_user(location: Location) -> None:
    store = await Store.open(location, StoreLimits())
    counts = ExposureCounts()
    for unit, variant in (("ada", "v2"), ("bob", "v2"), ("eve", "v1"), ("kim", "v1"), ("kim", "v2")):
        counts.add(exposure(unit, variant))
    await store.write_outcomes(
        [outcome("bob")], [], 900.0
    )  # A conversion before the exposure does not count.
    await store.write_exposures(counts, 1_000.0)
    conversions = [
        outcome("ada"),
        outcome("ada"),
        outcome("eve"),
        outcome("kim"),
        outcome("unknown"),
        outcome("eve", "refund"),
    ]
    await store.write_outcomes(conversions, [], 1_100.0)
    (result,) = await store.exposures("chat", "tone")
    assert result.users == {"v1": 1, "v2": 2}, "units exposed to both variants are excluded"
    assert result.outcomes == {"purchase": {"v1": 1, "v2": 1}, "refund": {"v1": 1}}
    await store.close()


def test_outcomes_are_accepted_all_or_none() -> None:
    good = {"route": "chat", "metric": "purchase", "unit": "ada"}
    assert parse_outcomes(good) == parse_outcomes([good]) == parse_outcomes({"outcomes": [good]})
    with pytest.raises(
        ValueError,
        match=r"\[1\].unit: required for a conversion.*; \[1\].user: unknown field.*; "
        r"\[2\]: must be an object",
    ):
        parse_outcomes([good, {"route": "chat", "metric": "purchase", "user": "ada"}, 3])
    with pytest.raises(
        ValueError, match=r"\[0\].value: must be true, false.*; \[0\]: feedback .* requires a request_id"
    ):
        parse_outcomes({"route": "chat", "metric": "thumbs", "value": "yes"})
    with pytest.raises(ValueError, match=r"value: must be .* a number from -1000000000 to 1000000000"):
        parse_outcomes({"route": "chat", "metric": "thumbs", "unit": "a", "value": float("nan")})
    with pytest.raises(ValueError, match="at most 10000"):
        parse_outcomes([good] * 10_001)
    for number, end in (
        (20, r"\[19\]: must be an object.*"),
        (21, "and 1 more problem"),
        (23, "and 3 more problems"),
    ):
        with pytest.raises(ValueError, match=f"; {end}$") as caught:
            parse_outcomes([3] * number)
        assert str(caught.value).count("must be an object") == 20


async def test_feedback_of_a_request_or_user_counts_once(location: Location) -> None:
    store = await Store.open(location, StoreLimits())
    thumb = {"route": "chat", "metric": "thumbs", "request_id": "r1", "value": True}
    first = parse_outcomes([thumb, thumb, {**thumb, "request_id": "r9", "value": False}])
    assert await store.write_outcomes((), first.feedback, 1_000.0) == 1
    pair = Pair(primary=builders.leg(request_id="r1"), shadow=builders.leg(Role.SHADOW, "r1"))
    await store.write([pair], LegCounts(), 1_010.0)
    rated = {"route": "chat", "metric": "rating", "unit": "ada", "value": 4, "variant": "v2", "id": "a"}
    second = parse_outcomes([rated, {**rated, "value": 2, "id": "b"}, {**rated, "value": 1}])
    assert await store.write_outcomes((), second.feedback, 9_000.0) == 1
    result = {
        (one.metric, one.variant): (one.count, one.total, one.positive)
        for one in await store.feedback("chat")
    }
    assert result == {
        ("rating", "v2"): (2, 6.0, 2),
        ("thumbs", "v1"): (1, 1.0, 1),
        ("thumbs", ""): (1, 0.0, 0),
    }
    assert await store.feedback("code") == []
    await store.close()

"""Who was exposed to which variant: counted by unit, kept without names."""

from __future__ import annotations

import base64
import sqlite3
from typing import TYPE_CHECKING

import pytest

from mirror_collector.exchange import Exposure, Exposures, Outcome, RouteName, Variant, parse_entry
from mirror_collector.receive.outcomes import parse_outcomes
from mirror_collector.store import Store, StoreLimits
from mirror_collector.wire import accesslog_pb2 as wire

if TYPE_CHECKING:
    from pathlib import Path


def exposure(unit: str, variant: str = "v2", experiment: str = "tone") -> Exposure:
    return Exposure(route=RouteName("chat"), experiment=experiment, variant=Variant(variant), unit=unit)


def entry(**fields: str) -> bytes:
    message = wire.HTTPAccessLogEntry()
    message.common_properties.upstream_cluster = "chat/v2"
    captured = message.common_properties.metadata.filter_metadata["shiftplane.capture"].fields
    for name, value in {"route": "chat", "role": "primary", **fields}.items():
        captured[name].string_value = value.encode()
    return bytes(message.SerializeToString())


def test_an_entry_without_times_is_an_exposure() -> None:
    unit = base64.b64encode("ädä".encode()).decode()
    assert parse_entry(entry(experiment="tone", unit=unit)) == exposure("ädä")
    assert parse_entry(entry(experiment="tone")) == exposure("")


async def test_units_and_requests_by_variant(tmp_path: Path) -> None:
    path = tmp_path / "pairs.sqlite"
    store = await Store.open(path, StoreLimits(exposure_retention=100.0))
    for batch in (["ada", "ada", "bob", ""], ["ada", "eve"]):
        waiting = Exposures()
        for unit in batch:
            waiting.add(exposure(unit))
        await store.write_exposures(waiting, 1_000.0)
    waiting = Exposures()
    waiting.add(exposure("ada", "v1"))
    waiting.add(exposure("ada", "v1", "other test"))
    await store.write_exposures(waiting, 1_050.0)
    other, tone = await store.exposures("chat", None)
    assert (other.experiment, other.variants) == ("other test", {"v1": (1, 1)})
    assert tone.variants == {"v1": (1, 1), "v2": (3, 5)}
    assert (tone.crossovers, tone.without_unit) == (1, 1)
    assert await store.exposures("other", None) == []
    await store.tidy(1_120.0)
    assert [e.variants for e in await store.exposures("chat", "tone")] == [{"v1": (1, 1)}]
    await store.close()
    assert all(b"ada" not in file.read_bytes() for file in files(tmp_path)), "nobody's name is kept"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror_collector.exchange.exposure._MOST", 2)
    waiting = Exposures()
    for unit in ("a", "b", "c", "a"):
        waiting.add(exposure(unit))
    assert (waiting.requests.total(), waiting.lost) == (3, 1)


async def test_a_store_of_the_first_schema_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "pairs.sqlite"
    await (await Store.open(path, StoreLimits())).close()
    with sqlite3.connect(path) as db:
        db.executescript(
            "DROP TABLE exposures; DROP TABLE secrets; DROP TABLE outcomes; PRAGMA user_version = 1;"
        )
    db.close()
    store = await Store.open(path, StoreLimits())
    assert await store.exposures(None, None) == []
    await store.close()


async def test_a_store_of_the_second_schema_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "pairs.sqlite"
    await (await Store.open(path, StoreLimits())).close()
    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE outcomes; PRAGMA user_version = 2;")
    db.close()
    store = await Store.open(path, StoreLimits())
    await store.write_outcomes([outcome("ada")], 1.0)
    await store.close()


def outcome(unit: str, metric: str = "purchase") -> Outcome:
    return Outcome(route=RouteName("chat"), metric=metric, unit=unit)


async def test_outcomes_are_joined_to_variants_by_user(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "pairs.sqlite", StoreLimits())
    waiting = Exposures()
    for unit, variant in (("ada", "v2"), ("bob", "v2"), ("eve", "v1"), ("kim", "v1"), ("kim", "v2")):
        waiting.add(exposure(unit, variant))
    await store.write_outcomes([outcome("bob")], 900.0)  # Before the exposure: not its doing.
    await store.write_exposures(waiting, 1_000.0)
    told = [
        outcome("ada"),
        outcome("ada"),
        outcome("eve"),
        outcome("kim"),
        outcome("nobody"),
        outcome("eve", "refund"),
    ]
    await store.write_outcomes(told, 1_100.0)
    (found,) = await store.exposures("chat", "tone")
    assert found.users == {"v1": 1, "v2": 2}, "who met both is left out"
    assert found.outcomes == {"purchase": {"v1": 1, "v2": 1}, "refund": {"v1": 1}}
    await store.close()


def test_outcomes_are_taken_whole_or_not_at_all() -> None:
    good = {"route": "chat", "metric": "purchase", "unit": "ada"}
    assert parse_outcomes(good) == parse_outcomes([good]) == parse_outcomes({"outcomes": [good]})
    with pytest.raises(
        ValueError, match=r"\[1\].unit: text.*; \[1\].user: unknown.*; \[2\]: must be an object"
    ):
        parse_outcomes([good, {"route": "chat", "metric": "purchase", "user": "ada"}, 3])
    with pytest.raises(ValueError, match="at most 10000"):
        parse_outcomes([good] * 10_001)

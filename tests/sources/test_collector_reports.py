"""Reports of a collector become typed values; what cannot be read counts as unknown."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from demo.processes import free_port
from xds_server.analysis.experiments import Exposures
from xds_server.analysis.verdicts import PairSummary
from xds_server.sources import CollectorSource


@pytest.mark.parametrize(
    ("report", "pairs", "rate"),
    [
        ({"pairs": 12, "shadow_tokens_per_second": 3}, 12, 3.0),
        ({"pairs": "12", "shadow_tokens_per_second": "3"}, None, None),
        ({"pairs": None}, None, None),
        ({}, None, None),
    ],
)
def test_a_summary_reads_numbers_only(report: dict[str, Any], pairs: int | None, rate: float | None) -> None:
    summary = PairSummary.from_json(report)
    assert (summary.pairs, summary.shadow_tokens_per_second) == (pairs, rate)
    assert summary.document == report


def test_exposures_are_read_whole() -> None:
    report = {"users": {"v1": 3}, "outcomes": {"purchase": {"v1": 1}}, "crossovers": 2}
    assert Exposures.from_json(report) == Exposures(
        users={"v1": 3}, outcomes={"purchase": {"v1": 1}}, crossovers=2
    )
    assert Exposures.from_json({}) == Exposures()


@pytest.mark.parametrize("report", [{"users": 3}, {"users": {"v1": "many"}}, {"outcomes": {"purchase": 1}}])
def test_exposures_of_another_shape_are_an_error(report: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        Exposures.from_json(report)


async def test_a_collector_that_is_unreachable_from_the_start_is_logged_once() -> None:
    source = CollectorSource(f"http://127.0.0.1:{free_port()}")
    with capture_logs() as logs:
        async with aiohttp.ClientSession() as session:
            await source._fetch(session)
            await source._fetch(session)
    assert [entry["event"] for entry in logs] == ["collector_unreachable"]

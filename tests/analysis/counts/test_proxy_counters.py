"""Requests that end before their response: Envoy's counters have no outcome of them."""

from __future__ import annotations

import pytest

from xds_server.analysis.counts import Counts, Leg
from xds_server.analysis.counts.proxy_counters import CounterTotals

ENDED = {"cluster": "chat/v2", "code": "0"}


def counted(*counters: tuple[str, float, dict[str, str]]) -> Counts:
    totals = CounterTotals()
    for name, value, labels in counters:
        totals.add_counter(name, value, labels)
    return dict(totals.legs())[Leg(route="chat", variant="v2")]


@pytest.mark.parametrize("outcome", [{"outcome": ""}, {}], ids=["from the proxy", "from Prometheus"])
def test_a_client_that_leaves_before_the_response_is_unanswered(outcome: dict[str, str]) -> None:
    found = counted(("requests", 9, ENDED | outcome), ("left", 7, ENDED | outcome | {"wait": "short"}))
    assert (found.requests, found.left, found.left_unanswered) == (2, 7, 7)


def test_a_client_that_leaves_late_was_counted_as_waiting_before() -> None:
    found = counted(
        ("requests", 9, ENDED), ("left", 9, ENDED | {"wait": "long"}), ("waiting", 9, {"cluster": "chat/v2"})
    )
    assert (found.left, found.left_unanswered, found.waiting) == (9, 0, 9)

"""What is missing in the statistics of a client follows from what it sent, and ends with its last stream."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xds_server.view.uncounted import StatisticsDefect
from xds_server.xds.server.statistics_clients import StatisticsClient, StatisticsClients
from xds_server.xds.session.proxy_statistics import StatisticsMessage

IDLE = StatisticsMessage(node="", group="", legs={}, lost={})
COUNTED = replace(IDLE, requests=9, responses=9, outcomes=9, forwarded=9, histograms=True)
FORWARDED = replace(IDLE, forwarded=60)
OLD = replace(COUNTED, outcomes=0)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], None),
        ([IDLE] * 500, None),
        ([COUNTED] * 500, None),
        ([replace(IDLE, untagged=True)], StatisticsDefect.UNTAGGED),
        ([FORWARDED] * 302, StatisticsDefect.NO_REQUESTS),
        ([FORWARDED] * 300, None),
        ([replace(FORWARDED, forwarded=1)] * 99 + [IDLE] * 300, None),
        ([FORWARDED] * 302 + [COUNTED], None),
        ([FORWARDED] * 302 + [OLD], StatisticsDefect.NO_OUTCOMES),
        ([OLD, IDLE], StatisticsDefect.NO_OUTCOMES),
        ([OLD, replace(COUNTED, outcomes=1)], None),
        ([OLD, COUNTED, replace(IDLE, requests=3)], None),
        ([replace(COUNTED, other_buckets=True), IDLE], StatisticsDefect.NO_BUCKETS),
        ([replace(COUNTED, other_buckets=True), COUNTED], None),
    ],
)
def test_the_defect_of_a_client(messages: list[StatisticsMessage], expected: StatisticsDefect | None) -> None:
    client = StatisticsClient()
    for second, message in enumerate(messages):
        client.add(message, float(second))
    assert client.defect(max(0.0, len(messages) - 1.0)) is expected


def test_a_client_is_known_until_its_last_stream_ends() -> None:
    clients = StatisticsClients()
    assert clients.opened("chat", "a") is clients.opened("chat", "a")
    clients.opened("chat", "b").add(OLD, 0.0)
    clients.closed("chat", "a")
    assert clients.defects(1.0) == {("chat", "a"): None, ("chat", "b"): StatisticsDefect.NO_OUTCOMES}
    clients.closed("chat", "a")
    clients.closed("chat", "b")
    assert clients.opened("chat", "b").defect(1.0) is None
    assert clients.defects(1.0) == {("chat", "b"): None}

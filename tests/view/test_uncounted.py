"""Which connected proxies are named as uncounted, and how."""

from __future__ import annotations

import pytest

from xds_server.view import ProxyStatus, ProxyView
from xds_server.view.uncounted import StatisticsDefect, text_of, uncounted, uncounted_texts


def proxy(name: str, version: str = "1.40.0", *, group: str = "chat", since: float = 0.0) -> ProxyView:
    return ProxyView(
        id=name,
        group=group,
        mode="gateway",
        status=ProxyStatus.SYNCED,
        version="v",
        envoy_version=version,
        address="",
        connected_since=since,
        last_seen=since,
        detail="",
    )


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (proxy("a"), StatisticsDefect.SILENT),
        (proxy("a", since=41.0), None),
        (proxy("a", "1.36.2"), None),
        (proxy("a", ""), None),
        (proxy("counted"), None),
        (proxy("counted", group="other"), StatisticsDefect.SILENT),
        (proxy("old"), StatisticsDefect.NO_OUTCOMES),
    ],
)
def test_a_proxy_is_uncounted(view: ProxyView, expected: StatisticsDefect | None) -> None:
    defects = {("chat", "counted"): None, ("chat", "old"): StatisticsDefect.NO_OUTCOMES}
    found = uncounted([view], defects, 100.0)
    assert found == ({} if expected is None else {(view.group, view.id): expected})


def test_each_group_and_defect_has_a_sentence_with_some_names() -> None:
    silent = {("chat", f"p{n}"): StatisticsDefect.SILENT for n in range(5)}
    texts = uncounted_texts(
        {**silent, ("chat", "z"): StatisticsDefect.UNTAGGED, ("b", "p"): StatisticsDefect.SILENT}
    )
    assert texts == {
        "chat": (
            f"each of p0, p1, p2 and 2 more {text_of(StatisticsDefect.SILENT)}",
            f"z {text_of(StatisticsDefect.UNTAGGED)}",
        ),
        "b": (f"p {text_of(StatisticsDefect.SILENT)}",),
    }
    assert all(text_of(defect) for defect in StatisticsDefect)

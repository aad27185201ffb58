"""Counts from cumulative series are whole numbers, however the scrapes fall."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from xds_server.analysis.counts import DURATION_MS, Counts, Leg, add_counts
from xds_server.analysis.counts.cumulative_series import CumulativeSeries
from xds_server.sources.prometheus import QueryResults, number_of, samples_of

V2 = Leg(route="chat", variant="v2")
Sample = tuple[dict[str, str], float]


def requests(value: float, instance: str = "a", code: str = "200") -> Sample:
    labels = {"__name__": "envoy_llm_requests", "cluster": "chat/v2", "instance": instance, "code": code}
    return labels, value


def buckets(row: list[int], instance: str = "a") -> list[Sample]:
    samples = {"__name__": "envoy_llm_duration_ms_bucket", "cluster": "chat/v2", "instance": instance}
    edges = [*(f"{edge:g}" for edge in DURATION_MS), "+Inf"]
    return [({**samples, "le": edge}, float(n)) for edge, n in zip(edges, accumulate(row), strict=True)]


def test_the_first_scrape_only_sets_the_starting_point() -> None:
    scraped = CumulativeSeries()
    assert scraped.increments([requests(100)]) == {}
    assert scraped.increments([requests(103), requests(5, "b")])[V2].requests == 8


def test_a_series_that_fell_restarts_from_zero() -> None:
    scraped = CumulativeSeries()
    scraped.increments([requests(100)])
    assert scraped.increments([requests(4)])[V2].requests == 4


def test_a_failed_scrape_loses_no_counts() -> None:
    scraped = CumulativeSeries()
    scraped.increments([requests(100)])
    assert scraped.increments([]) == {}
    assert scraped.increments([requests(107)])[V2].requests == 7


ROW = st.lists(st.integers(0, 5), min_size=len(DURATION_MS) + 1, max_size=len(DURATION_MS) + 1)


@given(st.lists(st.tuples(st.sampled_from("ab"), ROW, st.integers(0, 50)), max_size=8))
def test_counts_equal_what_the_proxies_counted(steps: list[tuple[str, list[int], int]]) -> None:
    scraped, total = CumulativeSeries(), Counts()
    rows = {"a": [0] * (len(DURATION_MS) + 1), "b": [0] * (len(DURATION_MS) + 1)}
    requested: Counter[str] = Counter()

    def scrape() -> Counts:
        samples = [sample for name in rows for sample in buckets(rows[name], name)]
        found = scraped.increments([*samples, *(requests(requested[name], name) for name in rows)])
        return found.get(V2, Counts())

    scrape()
    for name, row, more in steps:
        rows[name] = [old + new for old, new in zip(rows[name], row, strict=True)]
        requested[name] += more
        total = add_counts(total, scrape())
    assert total.requests == requested.total()
    assert list(total.duration_ms) == [one + other for one, other in zip(rows["a"], rows["b"], strict=True)]


def test_foreign_series_are_ignored() -> None:
    scraped = CumulativeSeries()
    scraped.increments([])
    nan = float("nan")
    others: list[Sample] = [
        ({"__name__": "envoy_llm_requests", "code": "200"}, 3.0),
        ({"__name__": "envoy_llm_duration_ms_count", "cluster": "chat/v2"}, 3.0),
        ({"__name__": "envoy_llm_requests", "cluster": "chat/hop", "code": "200"}, 3.0),
        ({"__name__": "envoy_llm_requests", "cluster": "chat/v2", "code": "200"}, nan),
    ]
    assert scraped.increments(others) == {}


def test_a_query_result_is_one_number_or_none() -> None:
    one = {"metric": {}, "value": [0, "0.5"]}
    assert number_of({"resultType": "vector", "result": [one]}) == 0.5
    assert number_of({"resultType": "scalar", "result": [0, "3"]}) == 3.0
    assert number_of({"resultType": "vector", "result": []}) is None
    assert number_of({"resultType": "vector", "result": [one, one]}) is None
    assert number_of({"resultType": "vector", "result": [{"metric": {}, "value": [0, "NaN"]}]}) is None
    assert list(samples_of({"resultType": "matrix", "result": []})) == []


def test_a_query_result_that_was_not_renewed_is_dropped() -> None:
    now = 0.0
    results = QueryResults(lambda: now)
    results.put(("chat", "gpu"), 1.0)
    results.put(("chat", "slow"), None, interval=300.0)
    now = 60.0
    assert results.results("chat") == {"gpu": 1.0, "slow": None}
    now = 60.1
    assert results.results("chat") == {"slow": None}
    now = 600.1
    assert results.results("chat") == {}

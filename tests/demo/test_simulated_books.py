"""The fault board of the simulated server, and its books."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.simulated import Api, Fault, FaultError, FaultMode
from demo.simulated.encodings import CODINGS
from demo.simulated.faults import parse_faults
from tests.support.simulated import CHAT, serving
from tests.support.simulated_apis import PATHS, STREAMED, ask, booked

ALL = tuple(PATHS)


async def test_a_fault_of_one_api_leaves_the_others_alone() -> None:
    async with serving() as (server, session):
        async with session.post("/_sim/faults", json={"mode": "error", "api": ["rerank", "score"]}) as got:
            assert await got.json() == {"mode": "error", "rate": 1.0, "api": ["rerank", "score"]}
        statuses = {api: (await ask(session, api)).status for api in ALL}
    assert {api for api, status in statuses.items() if status == 500} == {"rerank", "score"}
    assert booked(server) == Counter(
        {(api, "error" if status == 500 else "ok", status): 1 for api, status in statuses.items()}
    )


@pytest.mark.parametrize(
    ("mode", "api"),
    [("reversed_ranking", "chat"), ("tool_name", "chat"), ("end_mark_only", "embeddings"),
     ("late_role", "completions"), ("split_usage", "messages"), ("gibberish", "speech")],
)  # fmt: skip
async def test_a_fault_that_changes_nothing_is_booked_as_ok(mode: str, api: str) -> None:
    async with serving(fault=Fault(mode=FaultMode(mode))) as (server, session):
        assert (await ask(session, api, stream=api in STREAMED)).status == 200
        assert booked(server) == Counter({(api, "ok", 200): 1})


async def test_rejected_requests_are_booked_and_some_faults_hit_them_too() -> None:
    async with serving() as (server, session):
        async with session.post(CHAT, json={"messages": []}) as got:
            assert got.status == 400
        async with session.post("/v1/nothing", json={}) as got:
            assert got.status == 404
        server.faults.put(Fault(mode=FaultMode.GIBBERISH))
        async with session.post(CHAT, json={"messages": []}) as got:
            assert got.status == 400
        server.faults.put(Fault(mode=FaultMode.ERROR, status=429))
        async with session.post(CHAT, json={"messages": []}) as got:
            assert got.status == 429
    assert booked(server) == Counter(
        {("chat", "rejected", 400): 2, ("other", "rejected", 404): 1, ("chat", "error", 429): 1}
    )


async def test_the_books_equal_what_a_client_counts_over_mixed_requests() -> None:
    """Several faults at once, over all APIs, with concurrent requests: each response is booked once."""
    faults = [
        {"mode": "error", "rate": 0.2, "status": 503},
        {"mode": "html_200", "rate": 0.1, "api": ["chat", "embeddings"]},
        {"mode": "error", "rate": 0.3, "status": 429, "api": "messages"},
        {"mode": "cut_stream", "rate": 0.2},
    ]
    rng = random.Random(7)
    seen: Counter[tuple[str, int]] = Counter()
    cut = html = 0
    async with serving(seed=3) as (server, session):
        async with session.post("/_sim/faults", json=faults) as response:
            assert len(await response.json()) == 4
        plan = [rng.choice(ALL) for _ in range(400)]
        results = await asyncio.gather(
            *(ask(session, api, stream=api in STREAMED and rng.random() < 0.5) for api in plan)
        )
        for api, got in zip(plan, results, strict=True):
            seen[api, got.status] += 1
            cut += got.cut
            html += got.headers["content-type"].startswith("text/html")
        async with session.get("/_sim/books") as response:
            books = await response.json()
        async with session.delete("/_sim/books") as response:
            assert response.status == 200
        assert server.books.document() == {"total": 0, "running": {}, "entries": []}
    counted: Counter[tuple[str, int]] = Counter()
    outcomes: Counter[str] = Counter()
    for entry in books["entries"]:
        counted[entry["api"], entry["status"]] += entry["count"]
        outcomes[entry["outcome"]] += entry["count"]
    assert counted == seen
    assert books["total"] == 400
    assert books["running"] == {}
    assert (outcomes["cut_stream"], outcomes["html_200"]) == (cut, html)
    assert set(outcomes) == {"ok", "error", "html_200", "cut_stream"}
    assert 0.1 < outcomes["error"] / 400 < 0.4


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [{"mode": "error", "rate": 0.6}, {"mode": "hang", "rate": 0.5}],
        {"mode": "error", "status": 200},
        {"mode": "error", "retry_after": -1},
        {"mode": "error", "api": "chats"},
        {"mode": "late_role", "delay": -1},
        {"mode": "encoded", "encoding": "lzma"},
        {"mode": "stop_early", "after": 1.5},
        {"mode": ["error"]},
        "error",
    ],
    ids=str,
)
def test_invalid_faults_name_what_is_allowed(bad: object) -> None:
    with pytest.raises(FaultError, match=r"allowed|must be"):
        parse_faults(bad)


@given(
    st.sampled_from(FaultMode),
    st.floats(0, 1),
    st.lists(st.sampled_from(Api), unique=True, max_size=3),
    st.integers(400, 599),
    st.none() | st.integers(0, 60),
    st.sampled_from(sorted(CODINGS)),
)
def test_a_fault_is_read_from_its_own_document(
    mode: FaultMode, rate: float, apis: list[Api], status: int, wait: int | None, coding: str
) -> None:
    fault = Fault(mode=mode, rate=rate, apis=tuple(apis), status=status, retry_after=wait, encoding=coding)
    assert parse_faults(json.loads(json.dumps(fault.document()))) == (fault,)


def test_every_fault_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "start.md").read_text(encoding="utf-8")
    assert [mode.value for mode in FaultMode if f"`{mode.value}`" not in page and mode.value != "none"] == []

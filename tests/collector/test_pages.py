"""The pages show the data of the API, no messages to viewers, and no unescaped model output."""

from __future__ import annotations

import asyncio
import base64
from hashlib import sha256
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.exchange import PairingLimits
from mirror_collector.serve.pages.diff import word_diff
from mirror_collector.serve.pages.timeline import timeline
from mirror_collector.settings import Settings
from tests.collector.builders import chat_json, document
from tests.collector.running import Setting

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.collector.running import Collector

    Start = Callable[..., AbstractAsyncContextManager[Collector]]

TOKENS = {"ada": "viewer", "bob": "reader", "eve": "admin"}
SETTINGS_WITH_TOKENS = Settings.model_validate(
    {
        "access": {
            "tokens": [
                {"name": name, "sha256": sha256(name.encode()).hexdigest(), "role": role}
                for name, role in TOKENS.items()
            ]
        }
    }
)


class TagCollector(HTMLParser):
    """Collects the tags of a page and those that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.append(tag)
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def get_page(collector: Collector, path: str, *, status: int = 200, token: str = "") -> str:
    headers = {}
    if token:
        headers["authorization"] = "Basic " + base64.b64encode(f"any:{token}".encode()).decode()
    async with collector.client.get(f"http://{collector.at.http}{path}", headers=headers) as answer:
        assert answer.status == status, await answer.text()
        text = await answer.text()
        if answer.content_type == "text/html":
            found = TagCollector(text)
            assert not found.open
            assert "script" not in found.tags
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        return text


async def send_pairs(collector: Collector) -> None:
    markup = "<script>alert(1)</script> & so on"
    legs: list[Any] = []
    for number, text in enumerate((markup, "I'm sorry, but I can't help with that.", "hello world " * 30)):
        legs += [document("primary", f"r{number}", "hello world"), document("shadow", f"r{number}", text)]
    noise = document("noise", "r9", "hello world!")
    legs += [document("primary", "r9") | {"expects_noise": True}, document("shadow", "r9", "bye"), noise]
    await collector.post(legs)
    async with asyncio.timeout(10):
        while 'mirror_collector_pairs_total{route="chat"} 4.0' not in await collector.text("/metrics"):
            await asyncio.sleep(0.01)


async def test_a_pair_with_a_noise_leg_shows_its_differences(start: Start) -> None:
    async with start() as collector:
        legs = [document("primary", "r1", "hello world") | {"expects_noise": True}]
        legs += [document("shadow", "r1", "hullo world"), document("noise", "r1", "hello world!")]
        await collector.post(legs)
        await collector.pairs_when(1)
        text = await get_page(collector, "/pairs")
        assert "different answer" in text
        assert '<span class="dim">none</span>' not in text


async def test_pairs_without_their_noise_leg_are_shown_also_when_no_leg_is_unpaired(start: Start) -> None:
    setting = Setting(pairing=PairingLimits(window=10))
    async with start(setting) as collector:
        legs = [
            document("primary", "r1", "hello") | {"expects_noise": True},
            document("shadow", "r1", "hello"),
        ]
        await collector.post(legs)
        await collector.summary_when(lambda summary: bool(summary["routes"]))
        collector.clock.now += 11
        chat = await collector.pairs_when(1)
        assert (chat["unpaired"], chat["without_noise"]) == ({}, 1)
        assert "pairs without their noise leg 1" in await get_page(collector, "/")


async def test_pages_of_an_empty_store(start: Start) -> None:
    async with start() as collector:
        assert "No exchange was received yet" in await get_page(collector, "/")
        assert "There are no pairs to show" in await get_page(collector, "/pairs")
        assert "No stored pair matches the filter" in await get_page(collector, "/pairs?flags=refused")


async def test_the_worst_pair_is_two_clicks_from_the_overview(start: Start) -> None:
    async with start() as collector:
        await send_pairs(collector)
        overview = await get_page(collector, "/")
        assert 'href="/pairs?route=chat&amp;order=worst"' in overview
        assert "1 refused" in overview
        worst = await get_page(collector, "/pairs?route=chat&order=worst")
        first = worst[worst.index('href="/pairs/') + 6 :].partition('"')[0]
        assert "Differences</h2>" in await get_page(collector, first)
        refused = await get_page(collector, "/pairs?flags=refused")
        assert "the shadow refused" in refused
        assert refused.count('href="/pairs/') == 1


async def test_model_output_is_escaped(start: Start) -> None:
    async with start() as collector:
        await send_pairs(collector)
        listed = (await collector.get("/v1/pairs?limit=10"))["pairs"]
        (markup,) = (one["id"] for one in listed if one["request_id"] == "r0")
        assert "&lt;script&gt;" in (await get_page(collector, f"/pairs/{markup}")).replace(
            "</ins>", ""
        ).replace("<ins>", "")
        (noisy,) = (one["id"] for one in listed if one["request_id"] == "r9")
        assert "Noise leg: the second answer" in await get_page(collector, f"/pairs/{noisy}")


async def test_access_by_role(start: Start) -> None:
    async with start(Setting(settings=SETTINGS_WITH_TOKENS)) as collector:
        await send_pairs(collector)
        for path in ("/", "/pairs", "/pairs/1", "/v1/summary", "/v1/pairs/1"):
            await get_page(collector, path, status=401)
            await get_page(collector, path, status=401, token="unknown")
        assert "4</b>" in await get_page(collector, "/", token="ada")
        viewed = await get_page(collector, "/pairs/1", token="ada")
        assert "Messages require the role reader" in viewed
        assert "hello" not in viewed
        assert "hello" not in await get_page(collector, "/v1/pairs/1", token="ada")
        assert "hello" in await get_page(collector, "/pairs/1", token="bob")
        url = f"http://{collector.at.http}/v1/pairs?request_id=r0"
        for token, status in (("bob", 403), ("eve", 200)):
            headers = {"authorization": f"Bearer {token}"}
            async with collector.client.delete(url, headers=headers) as answer:
                assert answer.status == status
        assert "mirror_collector_pairs_total" in await get_page(collector, "/metrics")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/pairs/999", 404, "no such pair"),
        ("/pairs/x", 404, "no such pair"),
        ("/pairs?order=best", 400, "must be newest or worst"),
        ("/pairs?flags=odd", 400, "unknown flag &#39;odd&#39;; allowed: failed"),
        ("/pairs?what=1", 400, "unknown parameter"),
    ],
)
async def test_error_pages(start: Start, path: str, status: int, message: str) -> None:
    async with start() as collector:
        assert message in await get_page(collector, path, status=status)


texts = st.text(st.sampled_from("ab c.\n"), max_size=40)


@given(texts, texts)
def test_a_diff_contains_both_texts(first: str, second: str) -> None:
    left, right = word_diff(first, second)
    assert "".join(part.text for part in left) == first
    assert "".join(part.text for part in right) == second
    assert {part.side for part in left} <= {"both", "first"}
    if first == second:
        assert {part.side for part in (*left, *right)} <= {"both"}


def test_a_diff_marks_changed_words() -> None:
    left, right = word_diff("the old red cat", "the new blue cat")
    assert [(part.side, part.text) for part in left] == [
        ("both", "the "),
        ("first", "old red"),
        ("both", " cat"),
    ]
    assert [part.text for part in right if part.side == "second"] == ["new blue"]


def test_a_timeline_omits_times_before_the_start() -> None:
    leg = {
        "role": "primary",
        "variant": "v1",
        "started_at": 10.0,
        "first_chunk_at": 9.0,
        "last_chunk_at": None,
        "times": [[-5, 1], [10**12, 3]],
        "chunks": 2,
    }
    scale = timeline([leg])
    assert (scale.lanes[0].first, scale.lanes[0].end, scale.lanes[0].marks) == (None, None, ())


def test_a_diff_of_long_texts_is_limited() -> None:
    left, _ = word_diff("a " * 20_000, "b " * 20_000)
    assert sum(len(part.text) for part in left) == 40_000
    assert chat_json("x")

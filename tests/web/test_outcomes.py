"""Page, API and /metrics show guards, classes, coverage, withdrawn backends and what is not guarded."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.proxy import FakeProxy
from tests.support.site import GOOD, Served, serving
from xds_server.analysis.counts import Counts, Leg, Role
from xds_server.view import AnalysisView, GuardView, RouteView
from xds_server.view.model import MetricView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

V1, V2, COPIES = (
    Leg(route="chat", variant="v1"),
    Leg(route="chat", variant="v2"),
    Leg(route="chat", variant="v2", role=Role.SHADOW),
)
COUNTS = Counts(
    requests=1_100,
    failed=90,
    in_band=40,
    rejected=60,
    client_errors=50,
    left=70,
    left_unanswered=30,
    waiting=12,
    retried=11,
    answers=675,
    unread_encoded=225,
)
FAILED = GuardView(
    name="rejected",
    variant="v2",
    action="Notify",
    finding="Fail",
    words="rejected: 75 of 75 <b>",
    candidate={"n": 75, "x": 75, "value": 0.0},
    control={"n": 1425, "x": 3, "value": 0.998},
    least=0.1,
)
FINE = replace(FAILED, name="abandoned", finding="Inconclusive", action="Rollback")
OFF = GuardView(
    name="empty",
    variant=None,
    action="off",
    words="empty: the spec turns this guard off (analysis.guards.empty)",
)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, is_open=True) as found:
        await found.apply(GOOD)
        yield found


def show(site: Served, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    """Serve a changed view of the route."""
    view: RouteView = replace(site.engine.queries.view("chat"), **changed)
    monkeypatch.setattr(site.engine.queries, "view", lambda _: view)
    monkeypatch.setattr(site.engine.queries, "views", lambda *_: [view])


def analysis(*, dry_run: bool = False) -> AnalysisView:
    return AnalysisView(
        finding="Fail", words="v2 failed", dry_run=dry_run, metrics=(), guards=(FAILED, FINE, OFF)
    )


async def text_of(site: Served, path: str) -> str:
    async with site.client.get(path) as response:
        assert response.status == 200
        return await response.text()


async def page_of(site: Served) -> str:
    """Return the words of the route page without tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", await text_of(site, "/routes/chat")).split())


async def test_the_page_shows_guards_and_withdrawn_backends(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(site, monkeypatch, analysis=analysis(), withdrawn=("v2",))
    page = await page_of(site)
    assert "Withdrawn: v2 failed in this rollout. Until a new spec or a retry, v1 serves the users" in page
    assert "Guard failed: v2 rejected: 75 of 75 &lt;b&gt; (reported only)" in page
    assert "rejected v2 Fail 0.21 % (3 of 1,425) 100.00 % (75 of 75) 10 % Notify" in page
    assert "abandoned v2 not failed" in page
    assert "the spec turns this guard off (analysis.guards.empty)" in page
    show(site, monkeypatch, analysis=analysis(dry_run=True))
    assert "(dry run: reported only)" in await page_of(site)


async def test_guards_alone_are_no_verdict(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(analysis(), finding="Inconclusive", guards=(FINE,))
    show(site, monkeypatch, analysis=found)
    page = await page_of(site)
    assert "Guards" in page
    assert "erdict" not in page
    assert "Guard failed" not in page


async def test_page_and_api_show_classes_and_coverage_by_backend(site: Served) -> None:
    counts = replace(COUNTS, streamed_tokens=10, stream_metered_bytes=100, stream_unmetered_bytes=12_340)
    site.engine.analysis.count_from_proxy("chat", {V1: COUNTS, V2: counts})
    page = await page_of(site)
    assert "v2 900 90 in_band 40 60 50 30 / 40 12 11 75 % not read: encoded 225" in page
    assert "~1,234" in page
    assert "~ marks tokens estimated from the size of streams" in page
    old, new = (await site.request("GET", "/v1/routes/chat"))[1]["costs"]
    assert (old["variant"], old["success"], old["coverage"]) == ("v1", 900, 0.75)
    assert (new["left"], new["left_unanswered"], new["unread"]) == (70, 30, {"encoded": 225})


async def test_what_is_not_guarded_follows_the_connected_proxies(site: Served) -> None:
    assert (await site.request("GET", "/v1/routes/chat"))[1]["unguarded"] == []
    for number, minor in enumerate((36, 36, 40)):
        FakeProxy(site.hub, node=f"proxy-{number}", minor=minor)
    FakeProxy(site.hub, node="elsewhere", group="other", minor=37)
    expected = "Envoy 1.36 (2 proxies) counts no requests: they are not guarded"
    assert (await site.request("GET", "/v1/routes/chat"))[1]["unguarded"] == [expected]
    assert f"Not guarded: {expected}" in await page_of(site)


async def test_a_proxy_without_statistics_is_named_and_counted(site: Served) -> None:
    proxy = FakeProxy(site.hub, node="gw-1", minor=40)
    assert (await site.request("GET", "/v1/routes/chat"))[1]["unguarded"] == []
    proxy.stream.connected_since -= 60.0
    text = "sends no statistics (stats_sinks in its bootstrap, or its stream is refused)"
    (found,) = (await site.request("GET", "/v1/routes/chat"))[1]["unguarded"]
    assert found.startswith(f"gw-1 {text}")
    assert f"Not guarded: gw-1 {text}" in await page_of(site)
    (view,) = (await site.request("GET", "/v1/proxies"))[1]["proxies"]
    assert view["reduced"] == [f"{text}: its requests are not guarded"]
    series = 'shiftplane_proxies_uncounted{group="chat",reason="silent"}'
    assert f"{series} 1.0" in await text_of(site, "/metrics")
    client = site.hub.statistics.opened("chat", "gw-1")
    assert (await site.request("GET", "/v1/routes/chat"))[1]["unguarded"] == []
    assert f"{series} 0.0" in await text_of(site, "/metrics")
    client.untagged = True
    (found,) = (await site.request("GET", "/v1/routes/chat"))[1]["unguarded"]
    assert found.startswith("gw-1 sends statistics without tags")
    site.engine.analysis.count_from_prometheus({})
    assert (await site.request("GET", "/v1/routes/chat"))[1]["unguarded"] == []


async def test_the_page_explains_a_verdict_that_no_metric_has(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = MetricView(
        name="success-rate",
        kind="share",
        finding="Pass",
        action="Rollback",
        words="not worse",
        unit="of requests",
        candidate={"n": 9, "x": 0, "value": 1.0},
        control={"n": 9, "x": 0, "value": 1.0},
        effect=None,
        low=None,
        high=None,
        evidence=0.0,
        support=0.0,
        needed=1.0,
        max_ratio=1.0,
        margin=3.0,
        dispersion=1.0,
        remaining=None,
    )
    held = AnalysisView(finding="Inconclusive", words="38 % were not read", dry_run=False, metrics=(metric,))
    show(site, monkeypatch, analysis=held)
    assert "Verdict: Inconclusive 38 % were not read" in await page_of(site)
    show(site, monkeypatch, analysis=replace(held, finding="Pass"))
    assert "38 % were not read" not in await page_of(site)


async def test_the_list_of_routes_shows_failed_guards_and_no_verdict_of_guards_alone(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(site, monkeypatch, analysis=analysis(), withdrawn=("v2",), unguarded=("x",))
    failed = " ".join(re.sub(r"<[^>]+>", "", await text_of(site, "/")).split())
    assert "Fail, guard failed, withdrawn: v2, not fully guarded" in failed
    found = replace(analysis(), finding="Inconclusive", guards=(FINE,))
    show(site, monkeypatch, analysis=found, equivalence={"verdict": "Equivalent"}, withdrawn=())
    page = await text_of(site, "/")
    assert "Equivalent" in page
    assert "Inconclusive" not in page


def series(text: str, name: str) -> dict[str, float]:
    """Return the values of a series by its labels."""
    found = re.findall(rf"^{name}{{([^}}]*)}} (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


async def test_metrics_have_every_class_kind_and_reason_of_each_leg(site: Served) -> None:
    site.engine.analysis.count_from_proxy("chat", {V2: COUNTS, COPIES: Counts(requests=1)})
    text = await text_of(site, "/metrics")
    leg = 'role="primary",route="chat",variant="v2"'
    requests = series(text, "shiftplane_requests_total")
    by_class = {
        found[1]: value
        for labels, value in requests.items()
        if 'role="primary"' in labels and (found := re.search('class="(.*?)"', labels)) is not None
    }
    assert by_class == {"success": 900, "failed": 90, "rejected": 60, "client_error": 50, "abandoned": 70}
    assert len(requests) == 10, "the copies have all classes, too"
    failed, unread = (series(text, f"shiftplane_{name}_answers_total") for name in ("failed", "unread"))
    assert sorted(failed.values()) == [0] * 9 + [40]
    assert sorted(unread.values()) == [0] * 9 + [225]
    assert sum(series(text, "shiftplane_requests_waiting_total").values()) == 12
    assert sum(series(text, "shiftplane_requests_retried_total").values()) == 11
    assert any(
        sorted(labels.split(",")) == leg.split(",")
        for labels in series(text, "shiftplane_requests_retried_total")
    )


async def test_metrics_of_guards_and_withdrawn_backends(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(site, monkeypatch, analysis=analysis(), withdrawn=("v3",))
    text = await text_of(site, "/metrics")
    guards = series(text, "shiftplane_guard_failed")
    assert {re.findall('guard="(.*?)"', labels)[0]: value for labels, value in guards.items()} == {
        "rejected": 1,
        "abandoned": 0,
    }
    assert 'variant="v1"' in next(iter(series(text, "shiftplane_route_stable")))
    (withdrawn,) = series(text, "shiftplane_backend_withdrawn").items()
    assert ('variant="v3"' in withdrawn[0], withdrawn[1]) == (True, 1)

"""Guards with a real Envoy: gross faults roll a candidate back without any metric, and nothing else does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web

from tests.support.guarded import CANARY, Case, fault, serving_routes
from xds_server.cli.client import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.guarded import Routes
    from tests.support.plane import Plane

pytestmark = [pytest.mark.e2e, pytest.mark.long]

IMPATIENT: Final = 0.5


def broken(name: str, guard: str, mode: str, *, fields: dict[str, Any] | None = None, **more: Any) -> Case:
    return Case(name=name, guard=guard, faults={"v2": fault(mode, **(fields or {}))}, **more)


def status(code: int, guard: str) -> Case:
    return broken(f"status-{code}", guard, "error", fields={"status": code})


BROKEN: Final = (
    *(status(code, "rejected") for code in (401, 403, 408, 429)),
    status(503, "failed"),
    broken("unknown-model", "rejected", "unknown_model"),
    broken("context-length", "rejected", "context_length", strategy=CANARY % 25),
    broken("error-in-json", "failed", "error_200"),
    broken("error-in-stream", "failed", "error_200", stream=True),
    broken("error-without-mark", "failed", "error_200_unended", stream=True),
    broken("html", "failed", "html_200", strategy=CANARY % 25),
    broken("text", "failed", "text_200"),
    broken("broken-json", "failed", "broken_json"),
    broken("empty-body", "failed", "empty_body"),
    broken("no-end-mark", "failed", "no_end_mark", stream=True),
    broken("end-mark-only", "failed", "end_mark_only", stream=True),
    broken("cut", "failed", "cut_stream", stream=True),
    broken("empty-text", "empty", "empty_text"),
    broken("message-without-mark", "failed", "no_end_mark", stream=True, path="/v1/messages"),
    broken("hang-and-leave", "unanswered", "hang", gives_up_after=IMPATIENT),
    broken("headers-and-leave", "unanswered", "hang_after_headers", gives_up_after=IMPATIENT),
    broken("midstream-and-leave", "abandoned", "hang_midstream", gives_up_after=4 * IMPATIENT, stream=True),
    broken("hang", "unanswered", "hang"),
    broken("hang-after-headers", "unanswered", "hang_after_headers"),
)


def is_rolled_back(view: dict[str, Any]) -> bool:
    return view["phase"] in {"RollingBack", "RolledBack"}


async def test_a_candidate_that_fails_grossly_is_rolled_back(plane: Plane) -> None:
    async with serving_routes(plane, *BROKEN) as routes:
        await routes.apply()
        views = await routes.until(is_rolled_back, routes.cases)
    wrong = {
        name: f"{view['phase']}: {view['message']}"
        for name, view in views.items()
        if not (is_rolled_back(view) and f"failed: {routes.cases[name].guard}:" in view["message"])
    }
    assert wrong == {}


def alike(name: str, mode: str, rate: float = 0.3, **fields: Any) -> Case:
    same = fault(mode, rate=rate, **fields)
    return Case(name=name, faults={"v1": same, "v2": same})


def unlike(name: str, mode: str, *, stream: bool = False, **fields: Any) -> Case:
    return Case(name=name, faults={"v2": fault(mode, **fields)}, stream=stream)


SOUND: Final = (
    unlike("gzip", "encoded"),
    unlike("gzip-stream", "encoded", stream=True),
    unlike("pings", "late_ping", delay=0.1, stream=True),
    unlike("late-role", "late_role", delay=0.1, stream=True),
    unlike("no-usage", "no_usage"),
    unlike("slow", "slow", stream=True),
    alike("unknown-model-at-both", "unknown_model"),
    alike("errors-at-both", "error"),
    alike("errors-in-answers-at-both", "error_200"),
    Case(name="canceled", stream=True, canceled=0.5, inter_token=0.02),
    Case(name="speech", path="/v1/audio/speech", body={"input": "Hello there.", "voice": "alloy"}),
    Case(name="embeddings", path="/v1/embeddings", body={"input": ["Hello there."]}),
    Case(name="rerank", path="/v1/rerank", body={"query": "Hello?", "documents": ["Hello.", "Bread."]}),
    Case(name="messages", path="/v1/messages", stream=True),
)


@asynccontextmanager
async def chunked_server() -> AsyncIterator[str]:
    """Yield the address of a model server whose JSON has no declared length."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b'{"object": "chat.completion", "choices": []}')
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_candidate_without_a_gross_fault_of_its_own_is_kept(plane: Plane) -> None:
    async with chunked_server() as address:
        chunked = Case(name="chunked", addresses={"v2": address})
        async with serving_routes(plane, *SOUND, chunked) as routes:
            await routes.apply()
            await routes.counted(40, routes.cases)
            views = await routes.views()
    kept = {name: (view["phase"], view["weights"]["v2"]) for name, view in views.items()}
    assert kept == dict.fromkeys(views, ("Paused", 50)), {n: view["message"] for n, view in views.items()}
    costs = {name: {cost["variant"]: cost for cost in view["costs"]} for name, view in views.items()}
    for name, reason in (
        ("gzip", "encoded"),
        ("gzip-stream", "encoded"),
        ("chunked", "unsized"),
        ("speech", "other"),
    ):
        assert costs[name]["v2"]["unread"][reason] == costs[name]["v2"]["requests"]
    for variant in ("v1", "v2"):
        assert costs["canceled"][variant]["left"] > 0
        assert costs["unknown-model-at-both"][variant]["rejected"] > 5
        assert costs["errors-in-answers-at-both"][variant]["failures"]["in_band"] > 5


GONE: Final = fault("unknown_model")
AT_ONCE: Final = "{allAtOnce: {finalBakeTime: 10m}}"
AB_TEST: Final = (
    "{abTest: {randomizationUnit: user.id, variants: [{backend: v2, weight: 30}, {backend: v3, weight: 30}]}}"
)
TESTERS: Final = (
    "targeting: {rules: [{name: testers, clauses: [{attribute: tester, op: exists}], serve: v2}]}"
)
PREVIEW: Final = "{blueGreen: {previewMatch: [{attribute: tester, op: exists}]}}"
BY_STRATEGY: Final = (
    Case(name="at-once", guard="rejected", faults={"v2": GONE}, strategy=AT_ONCE),
    Case(name="at-once-errors", guard="failed", faults={"v2": fault("error_200")}, strategy=AT_ONCE),
    Case(
        name="linear",
        guard="rejected",
        faults={"v2": GONE},
        strategy="{growth: {growthFactor: 20, deploymentDuration: 100m}}",
    ),
    Case(name="blue-green", guard="rejected", faults={"v2": GONE}, strategy="{blueGreen: {}}"),
    Case(
        name="with-metrics",
        guard="rejected",
        faults={"v2": GONE},
        analysis="metrics: [{name: success-rate}, {name: duration-p50}]",
    ),
)
LATER: Final = Case(name="later", guard="rejected", faults={"v2": fault("none")}, strategy=AT_ONCE)
ONE_VARIANT: Final = Case(
    name="ab-test", faults={"v3": GONE}, strategy=AB_TEST, candidate=False, others=("v3",), rate=20.0
)
BOTH_VARIANTS: Final = Case(
    name="ab-test-both",
    guard="rejected",
    faults={"v2": GONE, "v3": GONE},
    strategy=AB_TEST,
    candidate=False,
    others=("v3",),
    rate=20.0,
)
BY_RULE: Final = tuple(
    Case(name=name, faults={"v2": GONE}, strategy=strategy, more=more, testers=0.4, candidate=bool(strategy))
    for name, strategy, more in (("rule", "", TESTERS), ("preview", PREVIEW, ""))
)
KEPT: Final = tuple(
    Case(name=name, faults={"v2": GONE}, analysis=analysis)
    for name, analysis in (
        ("off", "guards: {rejected: off}"),
        ("notify", "guards: {rejected: Notify}"),
        ("dry-run", "dryRun: true"),
    )
)
STILL_ON: Final = Case(
    name="others-on",
    guard="failed",
    faults={"v2": fault("html_200")},
    analysis="guards: {rejected: off, empty: off}",
)


def is_rolled_back_by(guard: str | None, view: dict[str, Any]) -> bool:
    return is_rolled_back(view) and f"{guard}:" in view["message"]


async def withdrawals(routes: Routes, name: str) -> list[str]:
    return [message for kind, message in await routes.events(name) if kind == "withdrawn"]


WITHDRAWN: Final = {("ab-test", "v3"), ("rule", "v2"), ("preview", "v2")}


async def serves_users(routes: Routes, *keys: tuple[str, str, bool]) -> None:
    """Wait until a further user of each (route, backend, is a tester) has been served."""
    before, clock = {key: routes.served[key] for key in keys}, asyncio.get_running_loop().time
    deadline = clock() + 20
    while waiting := [key for key in keys if routes.served[key] == before[key]]:
        assert clock() < deadline, waiting
        await asyncio.sleep(0.05)


async def test_guards_act_whatever_the_strategy(plane: Plane) -> None:
    rolled_back = (*BY_STRATEGY, LATER, BOTH_VARIANTS, STILL_ON)
    cases = (*rolled_back, ONE_VARIANT, *BY_RULE, *KEPT)
    async with serving_routes(plane, *cases) as routes:
        await routes.apply(rolled_out=False)
        await routes.until(lambda view: bool(view["costs"]), routes.cases)
        await routes.apply()
        await routes.until(lambda view: view["phase"] == "Paused", ["blue-green"])
        await routes.act("blue-green", "promote")
        await routes.counted(30, ["later"])
        routes.servers["later", "v2"].faults.put(GONE)
        views = await routes.until(is_rolled_back, [case.name for case in rolled_back])
        assert [
            f"{case.name}: {views[case.name]['phase']} {views[case.name]['message']}"
            for case in rolled_back
            if not is_rolled_back_by(case.guard, views[case.name])
        ] == []
        assert "while the stable backend had no requests" in views["later"]["message"]

        await routes.counted(40, [case.name for case in KEPT])
        views = await routes.views()
        kept = {case.name: (views[case.name]["phase"], views[case.name]["weights"]["v2"]) for case in KEPT}
        assert kept == dict.fromkeys(kept, ("Paused", 50))

        (message,) = await withdrawals(routes, "ab-test")
        assert message.startswith("v3: rejected: ")
        assert "v2" not in message
        assert views["ab-test"]["weights"] == {"v1": 70, "v2": 30, "v3": 0}
        for case, phase in zip(BY_RULE, ("Healthy", "Paused"), strict=True):
            (message,) = await withdrawals(routes, case.name)
            assert message.startswith("v2 failed for users of targets, rules or the preview: rejected: ")
            assert views[case.name]["phase"] == phase
        await serves_users(
            routes,
            ("ab-test", "v2", False),
            *((case.name, "v1", tester) for case in BY_RULE for tester in (False, True)),
        )
        served = {key: n for key, n in routes.served.items() if key[:2] in WITHDRAWN}
        await serves_users(routes, ("ab-test", "v1", False), ("rule", "v1", True), ("preview", "v1", True))
        assert {key: routes.served[key] for key in served} == served, "what was withdrawn serves no user"
        with pytest.raises(ApiError, match="withdrawn"):
            await routes.act("preview", "promote")

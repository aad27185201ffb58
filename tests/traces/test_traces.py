"""Spans of what an engine does, as OpenTelemetry's own messages understand them."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from structlog.testing import capture_logs

from tests.engine.harness import CANARY, V1, V2, EngineHarness, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from tests.support.receiver import Reply, receiving
from xds_server.engine import Action, CommandRefusedError
from xds_server.traces import Sender, Span, Tracer, export_request
from xds_server.xds.snapshot import CLUSTER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def traced(path: Path) -> AsyncIterator[tuple[EngineHarness, list[Span]]]:
    spans: list[Span] = []
    async with running_engine(path) as harness:
        harness.observer.tracer = Tracer(spans.append)
        yield harness, spans


def tree(spans: list[Span], root: Span) -> dict[str, Any]:
    """Return the names of a trace, each with what it belongs to inside."""
    inside = [span for span in spans if span.parent == root.id]
    assert all(span.trace == root.trace for span in inside)
    return {span.name: tree(spans, span) for span in inside}


async def test_a_command_is_kept_published_and_followed(tmp_path: Path) -> None:
    async with traced(tmp_path / "state.sqlite") as (harness, spans):
        FakeProxy(harness.hub)
        await harness.apply(route(V1, V2, CANARY))
        await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
        await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
        spans.clear()
        await harness.act(Action.ABORT)
        await harness.until(lambda: any(span.name == "converge" for span in spans))
        root = next(span for span in spans if span.name == "command")
        assert tree(spans, root) == {"move": {"keep": {}, "publish": {"converge": {}}}}
        assert dict(root.fields) == {"route": "chat", "command": "abort", "actor": "test"}
        (followed,) = [span for span in spans if span.name == "converge" and span.trace == root.trace]
        assert (followed.fields["group"], followed.fields["proxies"], followed.fields["acked"]) == (
            "chat",
            1,
            1,
        )
        assert followed.fields["superseded"] is False
        assert followed.ended >= root.began


async def test_an_apply_is_a_trace_of_its_own(tmp_path: Path) -> None:
    async with traced(tmp_path / "state.sqlite") as (harness, spans):
        await harness.apply(route(V1, V2, CANARY))
        first = next(span for span in spans if span.name == "apply")
        assert tree(spans, first) == {"keep": {}, "publish": {"converge": {}}}
        # Nobody is there to follow, which is known at once.
        assert next(span for span in spans if span.name == "converge").fields["proxies"] == 0
        assert await harness.apply(route(V1, V2, CANARY)) == "unchanged"
        second = [span for span in spans if span.name == "apply"][-1]
        assert tree(spans, second) == {}
        assert second.trace != first.trace


async def test_what_fails_says_so(tmp_path: Path) -> None:
    async with traced(tmp_path / "state.sqlite") as (harness, spans):
        await harness.apply(route(V1))
        await harness.phase("Pending")
        with pytest.raises(CommandRefusedError):
            await harness.act(Action.RETRY)
        assert [span.error for span in spans if span.name == "command"] == ["Refused"]


async def test_a_world_that_is_refused_is_followed_by_nobody_until_the_next(tmp_path: Path) -> None:
    async with traced(tmp_path / "state.sqlite") as (harness, spans):
        proxy = FakeProxy(harness.hub)
        await harness.apply(route(V1))
        await harness.phase("Healthy")
        spans.clear()
        proxy.refuse = {CLUSTER}
        await harness.apply(route(V1, more="timeouts: {connect: 3s}"))
        await harness.until(lambda: harness.engine.queries.view("chat").convergence.nacked == 1)
        assert not [span for span in spans if span.name == "converge"]
        await harness.apply(route(V1, more="timeouts: {connect: 4s}"))
        (given_up,) = [span for span in spans if span.name == "converge"]
        assert (given_up.fields["superseded"], given_up.fields["acked"]) == (True, 0)


def understood(document: Any) -> ExportTraceServiceRequest:
    """Read a request as a collector does: OTLP says ids in hexadecimal, other JSON of protobuf in base64."""
    for scoped in document["resourceSpans"][0]["scopeSpans"]:
        for span in scoped["spans"]:
            for name in ("traceId", "spanId", "parentSpanId"):
                if name in span:
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return json_format.ParseDict(document, ExportTraceServiceRequest())


def span(name: str = "keep", **more: Any) -> Span:
    said = {"trace": "a" * 32, "id": "b" * 16, "parent": "c" * 16, "name": name, "began": 5, "ended": 9}
    return Span(**{**said, **more})


def test_requests_are_what_opentelemetry_understands() -> None:
    spans = [
        span(fields={"route": "chat", "proxies": 3, "superseded": False}),
        span("apply", parent="", error="StoreError"),
    ]
    found = understood(export_request(spans, "1.2.3")).resource_spans[0]
    assert {one.key: one.value.string_value for one in found.resource.attributes} == {
        "service.name": "shiftplane",
        "service.version": "1.2.3",
    }
    keep, apply = found.scope_spans[0].spans
    assert (keep.start_time_unix_nano, keep.end_time_unix_nano, keep.status.code) == (5, 9, 1)
    values = {one.key: one.value for one in keep.attributes}
    assert values["shiftplane.route"].string_value == "chat"
    assert values["shiftplane.proxies"].int_value == 3
    assert values["shiftplane.superseded"].WhichOneof("value") == "bool_value"
    assert (apply.parent_span_id, apply.status.code) == (b"", 2)


@asynccontextmanager
async def sending(url: str) -> AsyncIterator[tuple[Sender, list[float]]]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    sender = Sender(url, sleep=sleep, chance=lambda: 1.0)
    running = asyncio.create_task(sender.run())
    try:
        yield sender, slept
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(sender: Sender, results: dict[str, int]) -> None:
    async with asyncio.timeout(10):
        while sender.results != results:
            await asyncio.sleep(0.002)


async def test_spans_arrive_and_failures_are_tried_again() -> None:
    async with (
        receiving(Reply(status=503), Reply(status=429, headers={"Retry-After": "7"})) as receiver,
        sending(receiver.url) as (sender, slept),
    ):
        sender.take(span())
        sender.take(span("apply"))
        await until(sender, {"delivered": 2})
    assert slept == [1.0, 1.0, 7.0, 1.0][: len(slept)]
    names = {
        one["name"] for one in json.loads(receiver.bodies[-1])["resourceSpans"][0]["scopeSpans"][0]["spans"]
    }
    assert names == {"keep", "apply"}
    assert len(receiver.bodies) == 3


async def test_what_is_lost_is_counted_and_said_once() -> None:
    async with (
        receiving(Reply(status=400), *[Reply(status=500)] * 5) as receiver,
        sending(receiver.url) as (sender, _),
    ):
        with capture_logs() as logs:
            sender.take(span())
            await until(sender, {"refused": 1})
            sender.take(span())
            await until(sender, {"refused": 1, "gave_up": 1})
            sender.take(span())
            await until(sender, {"refused": 1, "gave_up": 1, "delivered": 1})
    assert [entry["event"] for entry in logs] == ["spans_not_taken"]


def test_a_queue_that_is_full_drops_the_newest() -> None:
    sender = Sender("http://127.0.0.1:9")
    for _ in range(5_000):
        sender.take(span())
    assert sender.results == {"queue_full": 5_000 - 4_096}
    assert sender._target.url.value == "http://127.0.0.1:9/v1/traces"

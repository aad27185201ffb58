"""Spans of a real engine, and their OTLP encoding, checked with the OpenTelemetry protobuf messages."""

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
from xds_server.traces import Span, SpanExporter, Tracer, export_request
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
    """Return the names of the child spans of a span as a tree."""
    children = [span for span in spans if span.parent_id == root.span_id]
    assert all(span.trace_id == root.trace_id for span in children)
    return {span.name: tree(spans, span) for span in children}


async def test_a_command_has_spans_for_store_publish_and_convergence(tmp_path: Path) -> None:
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
        assert dict(root.attributes) == {"route": "chat", "command": "abort", "actor": "test"}
        (converge,) = [span for span in spans if span.name == "converge" and span.trace_id == root.trace_id]
        assert (
            converge.attributes["group"],
            converge.attributes["proxies"],
            converge.attributes["acked"],
        ) == (
            "chat",
            1,
            1,
        )
        assert converge.attributes["superseded"] is False
        assert converge.end_time >= root.start_time


async def test_each_apply_is_a_separate_trace(tmp_path: Path) -> None:
    async with traced(tmp_path / "state.sqlite") as (harness, spans):
        await harness.apply(route(V1, V2, CANARY))
        first = next(span for span in spans if span.name == "apply")
        assert tree(spans, first) == {"keep": {}, "publish": {"converge": {}}}
        # Without connected proxies the group has converged at once.
        assert next(span for span in spans if span.name == "converge").attributes["proxies"] == 0
        assert await harness.apply(route(V1, V2, CANARY)) == "unchanged"
        second = [span for span in spans if span.name == "apply"][-1]
        assert tree(spans, second) == {}
        assert second.trace_id != first.trace_id


async def test_a_failed_operation_has_its_error_type(tmp_path: Path) -> None:
    async with traced(tmp_path / "state.sqlite") as (harness, spans):
        await harness.apply(route(V1))
        await harness.phase("Pending")
        with pytest.raises(CommandRefusedError):
            await harness.act(Action.RETRY)
        assert [span.error for span in spans if span.name == "command"] == ["CommandNotAllowedError"]


async def test_a_rejected_snapshot_converges_only_when_it_is_superseded(tmp_path: Path) -> None:
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
        (superseded,) = [span for span in spans if span.name == "converge"]
        assert (superseded.attributes["superseded"], superseded.attributes["acked"]) == (True, 0)


def decoded(document: Any) -> ExportTraceServiceRequest:
    """Decode a request as a collector does: OTLP JSON has ids in hexadecimal, protobuf JSON in base64."""
    for scoped in document["resourceSpans"][0]["scopeSpans"]:
        for span in scoped["spans"]:
            for name in ("traceId", "spanId", "parentSpanId"):
                if name in span:
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return json_format.ParseDict(document, ExportTraceServiceRequest())


def span(name: str = "keep", **fields: Any) -> Span:
    ids = {"trace_id": "a" * 32, "span_id": "b" * 16, "parent_id": "c" * 16}
    return Span(**{**ids, "name": name, "start_time": 5, "end_time": 9, **fields})


def test_requests_decode_as_otlp() -> None:
    spans = [
        span(attributes={"route": "chat", "proxies": 3, "superseded": False}),
        span("apply", parent_id="", error="StoreError"),
    ]
    found = decoded(export_request(spans, "1.2.3")).resource_spans[0]
    assert {attribute.key: attribute.value.string_value for attribute in found.resource.attributes} == {
        "service.name": "shiftplane",
        "service.version": "1.2.3",
    }
    keep, apply = found.scope_spans[0].spans
    assert (keep.start_time_unix_nano, keep.end_time_unix_nano, keep.status.code) == (5, 9, 1)
    values = {attribute.key: attribute.value for attribute in keep.attributes}
    assert values["shiftplane.route"].string_value == "chat"
    assert values["shiftplane.proxies"].int_value == 3
    assert values["shiftplane.superseded"].WhichOneof("value") == "bool_value"
    assert (apply.parent_span_id, apply.status.code) == (b"", 2)


@asynccontextmanager
async def exporting(url: str) -> AsyncIterator[tuple[SpanExporter, list[float]]]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    exporter = SpanExporter(url, sleep=sleep, random_number=lambda: 1.0)
    running = asyncio.create_task(exporter.run())
    try:
        yield exporter, slept
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(exporter: SpanExporter, results: dict[str, int]) -> None:
    async with asyncio.timeout(10):
        while exporter.results != results:
            await asyncio.sleep(0.002)


async def test_spans_are_exported_and_failures_retried() -> None:
    async with (
        receiving(Reply(status=503), Reply(status=429, headers={"Retry-After": "7"})) as receiver,
        exporting(receiver.url) as (exporter, slept),
    ):
        exporter.add(span())
        exporter.add(span("apply"))
        await until(exporter, {"delivered": 2})
    assert slept == [1.0, 1.0, 7.0, 1.0][: len(slept)]
    names = {
        one["name"] for one in json.loads(receiver.bodies[-1])["resourceSpans"][0]["scopeSpans"][0]["spans"]
    }
    assert names == {"keep", "apply"}
    assert len(receiver.bodies) == 3


async def test_lost_spans_are_counted_and_logged_once() -> None:
    async with (
        receiving(Reply(status=400), *[Reply(status=500)] * 5) as receiver,
        exporting(receiver.url) as (exporter, _),
    ):
        with capture_logs() as logs:
            exporter.add(span())
            await until(exporter, {"refused": 1})
            exporter.add(span())
            await until(exporter, {"refused": 1, "gave_up": 1})
            exporter.add(span())
            await until(exporter, {"refused": 1, "gave_up": 1, "delivered": 1})
    assert [entry["event"] for entry in logs] == ["span_export_failed"]


def test_a_full_queue_drops_the_newest_spans() -> None:
    exporter = SpanExporter("http://127.0.0.1:9")
    for _ in range(5_000):
        exporter.add(span())
    assert exporter.results == {"queue_full": 5_000 - 4_096}
    assert exporter._target.url.value == "http://127.0.0.1:9/v1/traces"

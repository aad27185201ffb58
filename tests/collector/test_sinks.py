"""Sinks send valid requests and do not delay the pipeline."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mirror_collector.compare import Replies, compare
from mirror_collector.consumers.secret import Secret
from mirror_collector.consumers.sinks import DeliveryPolicy, LangfuseSink, OtlpSink
from mirror_collector.consumers.sinks.batch_sender import BatchSender, Target
from mirror_collector.consumers.sinks.spans import export_request, scores_of, spans_of
from mirror_collector.exchange import Failure, Pair, Role
from mirror_collector.settings import Settings
from tests.collector.builders import chat_json, document, leg
from tests.collector.running import Setting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.collector.running import Collector

    Start = Callable[..., AbstractAsyncContextManager[Collector]]


def make_pair(text: str = "bye", **shadow: Any) -> Pair:
    return Pair(
        primary=leg(Role.PRIMARY),
        shadow=leg(Role.SHADOW, body=chat_json(text), **shadow),
        noise=leg(Role.NOISE, body=chat_json("hello you")),
    )


def ok(document: dict[str, Any]) -> ExportTraceServiceRequest:
    """Parse OTLP JSON by the OpenTelemetry schema; ids are hexadecimal there and base64 in protobuf JSON."""

    def ids_as_base64(value: Any) -> Any:
        if isinstance(value, list):
            return [ids_as_base64(one) for one in value]
        if isinstance(value, dict):
            return {
                key: base64.b64encode(bytes.fromhex(one)).decode()
                if key.endswith(("traceId", "spanId", "SpanId"))
                else ids_as_base64(one)
                for key, one in value.items()
            }
        return value

    return json_format.ParseDict(ids_as_base64(document), ExportTraceServiceRequest())


def test_spans_conform_to_the_opentelemetry_schema() -> None:
    pair = make_pair(status=503, failure=Failure.UPSTREAM_REQUEST_TIMEOUT)
    replies = Replies.of(pair)
    result = ok(export_request(spans_of(pair, replies, compare(pair, replies), bodies=False)))
    primary, shadow, noise = result.resource_spans[0].scope_spans[0].spans
    assert primary.name == "chat chat/v1"
    assert shadow.parent_span_id == noise.parent_span_id == primary.span_id != b""
    assert {len(one.trace_id) for one in (primary, shadow, noise)} == {16}
    assert (primary.status.code, shadow.status.code) == (1, 2)
    assert primary.end_time_unix_nano - primary.start_time_unix_nano == 80_000_000
    attributes = {one.key: one.value for one in primary.attributes}
    assert attributes["gen_ai.usage.output_tokens"].int_value == 3
    assert attributes["gen_ai.response.finish_reasons"].array_value.values[0].string_value == "stop"
    assert attributes["gen_ai.server.time_to_first_token"].double_value == pytest.approx(0.02)
    assert {one.key: one.value for one in shadow.attributes}[
        "error.type"
    ].string_value == "upstream_request_timeout"
    assert b"hello" not in result.SerializeToString()


def test_spans_contain_messages_only_if_enabled() -> None:
    pair = make_pair()
    replies = Replies.of(pair)
    assert "hello world" in json.dumps(spans_of(pair, replies, compare(pair, replies), bodies=True))


def test_repeated_scores_have_the_same_ids() -> None:
    pair = make_pair()
    result = compare(pair)
    scores = {one["name"]: one for one in scores_of(pair, result)}
    assert scores == {one["name"]: one for one in scores_of(pair, result)}
    assert (scores["shadow_exact"]["dataType"], scores["shadow_exact"]["value"]) == ("BOOLEAN", 0.0)
    assert (
        scores["shadow_rouge_l"]["traceId"]
        == spans_of(pair, Replies.of(pair), result, bodies=False)[0]["traceId"]
    )


@dataclass(slots=True)
class FakeServer:
    """A server that returns the given statuses, then 200."""

    answers: list[int]
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, Any]] = field(default_factory=list)
    url: str = ""

    async def post(self, request: web.Request) -> web.Response:
        self.seen.append((request.path, request.headers.get("authorization", ""), await request.json()))
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers=self.headers)


@asynccontextmanager
async def run_server(*answers: int, **headers: str) -> AsyncIterator[FakeServer]:
    server = FakeServer(list(answers), {name.replace("_", "-"): value for name, value in headers.items()})
    app = web.Application()
    app.router.add_post("/{tail:.*}", server.post)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


async def deliver(url: str, items: int, policy: DeliveryPolicy) -> tuple[BatchSender, list[float]]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    target = Target(url=url, headers={}, body=lambda several: several)
    sender = BatchSender(target, policy, sleep=sleep, chance=lambda: 1.0)
    for number in range(items):
        sender.enqueue(number)
    sender.close()
    async with asyncio.timeout(20):
        await sender.run()
    return sender, slept


async def test_failed_requests_are_retried_with_backoff() -> None:
    async with run_server(503, 500, 200) as server:
        sender, slept = await deliver(server.url, 3, DeliveryPolicy())
        assert (sender.sent, sender.dropped) == (3, {})
        assert slept == [0.5, 1.0]
        assert [body for _, _, body in server.seen] == [[0, 1, 2]] * 3


async def test_retry_after_is_respected() -> None:
    async with run_server(429, retry_after="7") as server:
        _, slept = await deliver(server.url, 1, DeliveryPolicy())
        assert slept == [7.0]


async def test_lost_items_are_counted_by_reason() -> None:
    async with run_server(400) as server:
        refused, _ = await deliver(server.url, 2, DeliveryPolicy())
        assert refused.dropped == {"refused": 2}
    unreachable, slept = await deliver("http://127.0.0.1:9/", 2, DeliveryPolicy(max_attempts=3))
    assert (unreachable.dropped, len(slept)) == ({"gave_up": 2}, 2)
    full, _ = await deliver("http://127.0.0.1:9/", 5, DeliveryPolicy(queue_size=2, max_attempts=1))
    assert full.dropped == {"queue_full": 3, "gave_up": 2}
    full.enqueue(1)
    assert full.dropped["stopping"] == 1


async def test_langfuse_receives_traces_and_scores() -> None:
    async with run_server() as server:
        secret = Secret("sk-lf-1")
        sink = LangfuseSink(server.url, "pk-lf-1", secret, bodies=False, policy=DeliveryPolicy(linger=0.0))
        pair = make_pair()
        sink.enqueue(pair, Replies.of(pair), compare(pair))
        sink.close()
        await sink.run()
        paths = [path for path, _, _ in server.seen]
        assert paths.count("/api/public/otel/v1/traces") == 1
        assert paths.count("/api/public/scores") >= 4
        assert {base64.b64decode(auth.split()[1]) for _, auth, _ in server.seen} == {b"pk-lf-1:sk-lf-1"}
        assert "sk-lf" not in repr(secret) + str(secret)
        assert sink.sent == len(paths)


async def test_a_failing_sink_does_not_affect_other_sinks(start: Start) -> None:
    async with run_server() as server:
        settings = Settings.model_validate(
            {
                "sinks": [
                    {"type": "otlp", "url": server.url, "bodies": True},
                    {"type": "otlp", "url": "http://127.0.0.1:9"},
                ]
            }
        )
        async with start(Setting(settings=settings)) as collector:
            await collector.post(
                [document(role, "r1", "mail jo@example.com") for role in ("primary", "shadow")]
            )
            await collector.pairs_when(1)
        # Queued pairs are sent during shutdown.
        (path, _, sent), *_ = server.seen
        assert path == "/v1/traces"
        assert len(ok(sent).resource_spans) == 1
        assert "[email]" in json.dumps(sent)
        assert "jo@example.com" not in json.dumps(sent)


async def test_pairs_stored_during_shutdown_are_forwarded(start: Start, tmp_path: Path) -> None:
    async with run_server() as server:
        settings = Settings.model_validate({"sinks": [{"type": "otlp", "url": server.url}]})
        async with start(Setting(settings=settings)) as collector:
            with sqlite3.connect(tmp_path / "pairs.sqlite", isolation_level=None) as disk:
                disk.execute("BEGIN IMMEDIATE")
                await collector.post(
                    [document(role, f"r{n}") for n in range(30) for role in ("primary", "shadow")]
                )
                collector.stop.set()
                async with asyncio.timeout(5):
                    with suppress(OSError):
                        while await collector.get("/v1/summary"):
                            pass
                disk.execute("ROLLBACK")
        spans = [
            span
            for _, _, sent in server.seen
            for resource in ok(sent).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        assert len({span.trace_id for span in spans}) == 30


def test_a_sink_url_without_a_path_gets_the_standard_path() -> None:
    assert OtlpSink("http://a:4318", {}, bodies=False)._spans._target.url == "http://a:4318/v1/traces"
    assert OtlpSink("http://a/otlp", {}, bodies=False)._spans._target.url == "http://a/otlp"

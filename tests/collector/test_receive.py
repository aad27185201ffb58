"""The receiving endpoints on real sockets, and the queue."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mirror_collector.exchange import PairingLimits, RejectionReason, Role
from mirror_collector.receive import LegQueue, LegQueueLimits
from mirror_collector.receive.access_log import METHOD
from mirror_collector.wire import accesslog_pb2 as wire
from tests.collector.builders import EntryParts, chat_json, chat_stream, document, entry, leg, message
from tests.collector.running import Setting

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.collector.running import Collector

    Start = Callable[..., AbstractAsyncContextManager[Collector]]


def pair_of_entries(name: str, shadow: EntryParts | None = None) -> list[Any]:
    other = shadow or EntryParts(role="shadow", request_id=name, cluster="chat/v2/shadow")
    return [entry(EntryParts(request_id=name)), entry(other)]


async def send_messages(collector: Collector, *messages: bytes) -> bytes:
    """Send raw messages on one stream, close it and return the response."""
    async with grpc.aio.insecure_channel(str(collector.at.grpc)) as channel:
        call = channel.stream_unary(METHOD)(iter(messages), timeout=10)
        answer: bytes = await call
        return answer


async def test_two_legs_over_grpc_are_paired(start: Start) -> None:
    async with start() as collector:
        assert await send_messages(collector, message(*pair_of_entries("r1"))) == b""
        chat = await collector.pairs_when(1)
        assert chat["legs"] == {"primary": 1, "shadow": 1, "noise": 0}
        assert (chat["unpaired"], chat["waiting"]) == ({}, 0)
        assert chat["agreement"]["status"] == {"same": 1, "of": 1}
        assert chat["agreement"]["exact"] == {"same": 1, "of": 1}
        assert chat["rouge_l"] == {"mean": 1.0, "of": 1}
        assert chat["first_token_ms"]["primary"]["p50"] == pytest.approx(21, rel=0.02)
        assert chat["tokens"] == {
            "primary_mean": 3.0,
            "shadow_mean": 3.0,
            "of": 1,
            "estimated": False,
            "noise_total": 0,
        }
        assert [(c["primary_variant"], c["shadow_variant"]) for c in chat["comparisons"]] == [("v1", "v2")]
        listed = (await collector.get("/v1/pairs"))["pairs"][0]
        pair = await collector.get(f"/v1/pairs/{listed['id']}")
        assert pair["primary"]["node"] == "envoy-1"
        assert pair["shadow"]["reply"]["text"] == "hello world"


async def test_legs_of_different_streams_are_paired(start: Start) -> None:
    async with start() as collector:
        first, second = pair_of_entries("r1")
        await send_messages(collector, message(first))
        await collector.summary_when(lambda s: bool(s["routes"]) and s["routes"][0]["waiting"] == 1)
        collector.clock.now += 150
        await send_messages(collector, message(second, node=None))
        await collector.pairs_when(1)


async def test_a_leg_without_counterpart_is_unpaired_after_the_window(start: Start) -> None:
    async with start(Setting(pairing=PairingLimits(window=30))) as collector:
        await send_messages(collector, message(pair_of_entries("r1")[1]))
        await collector.summary_when(lambda s: bool(s["routes"]) and s["routes"][0]["waiting"] == 1)
        collector.clock.now += 31
        await send_messages(collector, message(pair_of_entries("r2")[0]))
        summary = await collector.summary_when(lambda s: bool(s["routes"][0]["unpaired"]))
        assert summary["routes"][0]["unpaired"] == {"no_primary": 1}


async def test_invalid_entries_do_not_affect_other_entries(start: Start) -> None:
    good, other = pair_of_entries("r1")
    invalid = bytes(entry(EntryParts(request_id="envoy-bad"))).replace(b"envoy-bad", b"envoy\xffbad")
    raw = encode_message([bytes(good), invalid, b"\xff\xff", bytes(entry(EntryParts(), req="%%%")), b""])
    async with start() as collector:
        await send_messages(collector, raw, b"\xff\xff\xff", message(other))
        await collector.pairs_when(1)
        summary = await collector.get("/v1/summary")
        assert summary["dropped"] == {"bad_base64": 1, "malformed": 3, "not_captured": 1}


def encode_message(entries: list[bytes]) -> bytes:
    logs = wire.StreamAccessLogsMessage.HTTPAccessLogEntries(log_entry=entries)
    return wire.StreamAccessLogsMessage(http_logs=logs).SerializeToString()


async def test_a_failed_shadow_counts_as_disagreement_in_status(start: Start) -> None:
    dead = EntryParts(
        role="shadow",
        cluster="chat/v2/shadow",
        status=503,
        body=b"upstream connect error",
        content_type="text/plain",
        flags=("upstream_connection_failure",),
    )
    async with start() as collector:
        await send_messages(collector, message(*pair_of_entries("r1", dead)))
        chat = await collector.pairs_when(1)
        assert chat["agreement"]["status"] == {"same": 0, "of": 1}
        assert chat["agreement"]["exact"] == {"same": 0, "of": 0}
        assert chat["failed"] == {"primary": 0, "shadow": 1}
        assert chat["latency_ms"]["shadow"] == {"p50": None, "p99": None}


async def test_a_pair_of_a_disconnected_client_is_stored_but_not_compared(start: Start) -> None:
    gone = entry(
        EntryParts(
            body=chat_stream(["a"], done=False),
            content_type="text/event-stream",
            flags=("downstream_connection_termination",),
            end=False,
        )
    )
    async with start() as collector:
        await send_messages(collector, message(gone, pair_of_entries("r1")[1]))
        chat = await collector.pairs_when(1)
        assert chat["client_left"] == 1
        assert chat["agreement"]["status"] == {"same": 0, "of": 0}
        assert (await collector.get("/v1/pairs"))["pairs"][0]["comparison"]["client_left"] is True
        assert (await collector.get("/v1/pairs?order=worst"))["pairs"] == []


async def test_large_messages_are_accepted_and_other_methods_are_not(start: Start) -> None:
    async with start() as collector:
        big = EntryParts(body=chat_json("x" * (9 << 20)), role="shadow")
        await send_messages(collector, message(pair_of_entries("r1")[0], entry(big)))
        await collector.pairs_when(1)
        async with grpc.aio.insecure_channel(str(collector.at.grpc)) as channel:
            call = channel.stream_unary("/envoy.service.accesslog.v3.AccessLogService/Other")(iter([b""]))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_canceled_stream_is_not_an_error(start: Start) -> None:
    async with start() as collector:
        async with grpc.aio.insecure_channel(str(collector.at.grpc)) as channel:
            call = channel.stream_unary(METHOD)()
            await call.write(message(pair_of_entries("r1")[0]))
            await collector.summary_when(lambda s: bool(s["routes"]))
            call.cancel()
        await send_messages(collector, message(pair_of_entries("r1")[1]))
        await collector.pairs_when(1)
    assert "error" not in collector.log.getvalue()


async def test_an_open_stream_does_not_delay_shutdown(start: Start) -> None:
    async with start() as collector, grpc.aio.insecure_channel(str(collector.at.grpc)) as channel:
        call = channel.stream_unary(METHOD)()
        await call.write(message(pair_of_entries("r1")[0]))
        await collector.summary_when(lambda s: bool(s["routes"]))
        collector.stop.set()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await call
    assert [json.loads(line)["event"] for line in collector.log.getvalue().splitlines()] == [
        "listening",
        "stopping",
        "stopped",
    ]


async def test_legs_waiting_at_shutdown_are_counted_as_unpaired(start: Start) -> None:
    async with start() as collector:
        await collector.post(document())
    async with start() as again:
        summary = await again.get("/v1/summary")
        assert summary["routes"][0]["unpaired"] == {"shutdown": 1}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", json.dumps([document(), document("shadow")])),
        ("application/json", json.dumps({"legs": [document(), document("shadow")]})),
        ("application/x-ndjson", f"{json.dumps(document())}\n\n{json.dumps(document('shadow'))}\n"),
    ],
)
async def test_two_legs_over_http_are_paired(start: Start, kind: str, body: str) -> None:
    async with start() as collector:
        answer = await collector.post(body.encode(), kind=kind)
        assert answer == {"accepted": 2, "rejected": []}
        await collector.pairs_when(1)


async def test_invalid_legs_over_http_are_reported_by_line(start: Start) -> None:
    lines = [
        json.dumps(document()),
        "{broken",
        json.dumps({**document(), "role": "x"}),
        "[" * 100_000,
        json.dumps(document("shadow")),
    ]
    async with start() as collector:
        answer = await collector.post("\n".join(lines).encode(), kind="application/x-ndjson")
        assert answer["accepted"] == 2
        assert [(one["line"], one["reason"]) for one in answer["rejected"]] == [
            (2, "malformed"),
            (3, "bad_field"),
            (4, "malformed"),
        ]
        await collector.pairs_when(1)
        assert (await collector.get("/v1/summary"))["dropped"] == {"bad_field": 1, "malformed": 2}


async def test_requests_without_legs_are_rejected(start: Start) -> None:
    async with start() as collector:
        assert (await collector.post(b"{", status=400))["error"] == "malformed"
        assert (await collector.post(b"[" * 1_000_000, status=400))["error"] == "malformed"
        assert (await collector.post([0] * 10_001, status=413))["error"] == "too_large"
        await collector.post(b"\n" * 1_000_000 + b"{}", status=202, kind="application/x-ndjson")
        assert (await collector.get("/healthz")) == {"status": "ok"}


async def test_invalid_queries_are_rejected(start: Start) -> None:
    async with start() as collector:
        for query in (
            "limit=0",
            "limit=501",
            "limit=x",
            "order=best",
            "before=x",
            "before=1&order=worst",
            "x=1",
        ):
            answer = await collector.get(f"/v1/pairs?{query}", status=400)
            assert answer["error"] == "bad_query"
        for name in ("0", "x", "9" * 30):
            assert (await collector.get(f"/v1/pairs/{name}", status=404))["error"] == "not_found"


async def test_pairs_are_listed_in_pages(start: Start) -> None:
    async with start() as collector:
        legs = [document(role, f"r{n}", f"t{n}") for n in range(5) for role in ("primary", "shadow")]
        await collector.post(legs)
        await collector.pairs_when(5)
        for order in ("newest", "worst"):
            first = await collector.get(f"/v1/pairs?route=chat&limit=3&order={order}")
            second = await collector.get(f"/v1/pairs?route=chat&limit=3&order={order}&before={first['next']}")
            names = [pair["request_id"] for pair in first["pairs"] + second["pairs"]]
            assert names == ["r4", "r3", "r2", "r1", "r0"]
            assert second["next"] is None


async def test_metrics_equal_the_summary(start: Start) -> None:
    async with start() as collector:
        await collector.post([document(), document("shadow"), document("shadow"), {"route": 'a"b\n'}])
        await collector.pairs_when(1)
        text = await collector.text("/metrics")
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        (found,) = (s.value for s in samples if s.name == f"mirror_collector_{name}" and s.labels == labels)
        return found

    variants = {"route": "chat", "primary": "v1", "shadow": "v2"}
    assert value("pairs_total", route="chat") == 1
    assert value("legs_total", route="chat", role="shadow") == 2
    assert value("unpaired_legs_total", route="chat", reason="duplicate") == 1
    assert value("dropped_total", reason="bad_field") == 1
    assert value("checks_total", **variants, check="exact", result="same") == 1
    assert value("checks_total", **variants, check="status", result="different") == 0
    assert value("rouge_l_count", **variants) == 1
    assert value("answer_milliseconds", **variants, role="shadow", quantile="0.5") == pytest.approx(
        80, rel=0.02
    )
    assert (value("store_writable"), value("queued_legs"), value("waiting_legs")) == (1, 0, 0)


async def test_bodies_are_not_logged(start: Start) -> None:
    async with start() as collector:
        secret = "xyzzy-secret"
        await collector.post([document(text=secret), document("shadow", text=secret), {"route": secret}])
        await send_messages(collector, message(*pair_of_entries("r7")), secret.encode())
        await collector.pairs_when(2)
    assert secret not in collector.log.getvalue()
    assert '"legs_dropped"' in collector.log.getvalue()


async def test_a_full_queue_drops_and_counts_the_newest_leg() -> None:
    one = leg(Role.PRIMARY, "a")
    for limits in (LegQueueLimits(max_legs=2), LegQueueLimits(max_bytes=2 * one.size)):
        queue = LegQueue(limits)
        answers = [queue.put(leg(Role.PRIMARY, name)) for name in "abc"]
        assert answers[:2] == [None, None]
        assert answers[2] is not None
        assert answers[2].reason is RejectionReason.QUEUE_FULL
        assert "queue is full" in answers[2].detail
        taken = await queue.get_batch(max_legs=10, max_bytes=1 << 30, wait=0.0)
        assert [one.request_id for one in taken] == ["a", "b"]
        assert queue.queued_bytes == 0
        assert queue.put(leg(Role.PRIMARY, "d")) is None
        assert queue.drain_drops() == {"queue_full": 1}
        assert queue.drain_drops() == {}


async def test_the_queue_returns_limited_batches_and_can_be_closed() -> None:
    queue = LegQueue(LegQueueLimits(max_routes=1))
    size = leg(Role.PRIMARY).size
    for n in range(5):
        queue.put(leg(Role.PRIMARY, f"r{n}"))
    assert len(await queue.get_batch(max_legs=2, max_bytes=1 << 30, wait=0.0)) == 2
    assert len(await queue.get_batch(max_legs=9, max_bytes=size + 1, wait=0.0)) == 2
    another = queue.put(leg(route="another"))
    assert another is not None
    assert another.reason is RejectionReason.TOO_MANY_ROUTES
    assert "the maximum of 1 routes" in another.detail
    queue.close()
    late = queue.put(leg())
    assert late is not None
    assert late.reason is RejectionReason.STOPPING
    assert "is stopping" in late.detail
    assert not queue.drained
    assert len(await queue.get_batch(max_legs=9, max_bytes=1 << 30, wait=60.0)) == 1
    assert queue.drained
    assert await queue.get_batch(max_legs=9, max_bytes=1 << 30, wait=60.0) == []


async def test_waiting_for_a_batch_ends_with_a_leg_or_close() -> None:
    queue = LegQueue(LegQueueLimits())
    async with asyncio.timeout(10):
        for event in (lambda: queue.put(leg()), queue.close):
            taking = asyncio.create_task(queue.get_batch(max_legs=9, max_bytes=1 << 30, wait=60.0))
            asyncio.get_running_loop().call_soon(event)
            await taking


async def test_a_failing_store_makes_the_collector_unready(start: Start, tmp_path: Path) -> None:
    async with start() as collector:
        await collector.get("/readyz")
        # A missing table simulates a failing disk: every write fails.
        with sqlite3.connect(tmp_path / "pairs.sqlite") as connection:
            connection.execute("ALTER TABLE pairs RENAME TO hidden")
        connection.close()
        await collector.post([document(), document("shadow")])
        summary = await collector.summary_when(lambda s: "store_failed" in s["dropped"])
        assert summary["dropped"] == {"store_failed": 2}
        assert summary["routes"][0]["unpaired"] == {"store_failed": 2}
        assert (await collector.get("/readyz", status=503))["error"] == "not_ready"
        assert (await collector.get("/v1/pairs", status=503))["error"] == "store_failed"
        assert "mirror_collector_store_writable 0.0" in await collector.text("/metrics")

        with sqlite3.connect(tmp_path / "pairs.sqlite") as connection:
            connection.execute("ALTER TABLE hidden RENAME TO pairs")
        connection.close()
        await collector.post([document(request_id="r2"), document("shadow", "r2")])
        await collector.pairs_when(1)
        await collector.get("/readyz")
    events = [json.loads(line)["event"] for line in collector.log.getvalue().splitlines()]
    assert [e for e in events if e.startswith("store")] == ["store_failing", "store_recovered"]

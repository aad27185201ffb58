"""The outbox with a real engine, a real store and a receiver that can fail."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from demo.processes import free_port
from tests.engine.harness import CANARY, V1, V2, EngineHarness, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from tests.support.receiver import Receiver, Reply, receiving
from xds_server.alarms import verify
from xds_server.engine import Action, Caller
from xds_server.notifications.delivery import DeliverySettings, Outbox
from xds_server.notifications.messages import Format, Notifications, Secret, Target
from xds_server.retry import RetryPolicy
from xds_server.store import Cursor, SqliteStore, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

SPEC = route(V1, V2, CANARY).replace("{name: chat}", "{name: chat, labels: {team: platform}}")


class FakeClock:
    """The outbox's clock; a sleep returns at once and advances the clock."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "state.sqlite") as alive:
        yield alive


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


def target(url: str, name: str = "ops", **more: Any) -> Target:
    return Target(**{"name": name, "format": Format.WEBHOOK, "url": Secret(url), **more})


@asynccontextmanager
async def delivering(
    harness: EngineHarness,
    *targets: Target,
    clock: FakeClock | None = None,
    attempt_timeout: float = 10.0,
    poll_interval: float = 3_600.0,
    longest_delay: float = 120.0,
) -> Any:
    """Run an outbox with these targets."""
    clock = clock or FakeClock()
    retry = RetryPolicy(first_delay=1.0, longest_delay=longest_delay, jitter=0.5)
    outbox = Outbox(
        harness.store,
        Notifications(targets=targets),
        DeliverySettings(timeout=attempt_timeout, retry=retry, poll_interval=poll_interval),
        clock=lambda: clock.now,
        sleep=clock.sleep,
        random_number=lambda: 1.0,
    )
    await outbox.load_cursors()
    harness.observer.on_event = outbox.wake
    running = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def history(harness: EngineHarness) -> list[str]:
    return [event.kind for event in await harness.engine.queries.events("chat", 100)]


async def test_all_events_are_delivered_once_and_in_order(harness: EngineHarness, receiver: Receiver) -> None:
    async with delivering(harness, target(receiver.url)) as outbox:
        FakeProxy(harness.hub)
        await harness.apply(SPEC)
        await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
        await harness.act(Action.ABORT)
        await harness.phase("RolledBack")
        expected = await history(harness)
        await receiver.until(len(expected))
        # A delivery is counted when the response arrives, shortly after the receiver has the message.
        await harness.until(lambda: outbox.counts["ops"].results == {"delivered": len(expected)})
        # Events are delivered in order: with one event more, a second delivery of an earlier one would show.
        await harness.engine.routes.command("chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks"))
        await receiver.until(len(expected) + 1)
    assert receiver.kinds[: len(expected) + 1] == [*expected, "killed"]
    assert (expected[0], expected[-1]) == ("accepted", "rolled_back")
    assert len(set(receiver.ids)) == len(receiver.ids)
    assert all(message["labels"] == {"team": "platform"} for message in receiver.messages)


async def test_each_target_receives_the_events_it_selects(harness: EngineHarness, receiver: Receiver) -> None:
    async with receiving() as other, receiving() as third:
        kills = target(receiver.url, "kills", events=("kill*", "unkilled"))
        ours = target(other.url, "ours", labels={"team": "platform"}, events=("deleted", "accepted"))
        theirs = target(third.url, "theirs", labels={"team": "search"})
        async with delivering(harness, kills, ours, theirs):
            await harness.apply(SPEC)
            await harness.engine.routes.command(
                "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
            )
            await harness.engine.routes.command(
                "chat", Action.UNKILL, by=Caller(actor="ada", reason="mended")
            )
            await receiver.until(2)
            await other.until(1)
            await harness.engine.routes.delete("chat", by=Caller(actor="ada"))
            await other.until(2)
            # Each target gets its events in order: one event more shows that the earlier ones were skipped.
            await harness.apply(SPEC.replace("platform", "search"))
            await harness.engine.routes.command(
                "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
            )
            await receiver.until(3)
            await third.until(2)
        assert receiver.kinds == ["killed", "unkilled", "killed"]
        assert third.kinds == ["accepted", "killed"]
        assert {message["labels"]["team"] for message in third.messages} == {"search"}
        assert receiver.messages[0]["message"] == "v1 serves all users: v2 leaks"
        # The event of a deleted route has the labels that the route had.
        assert [(m["kind"], m["labels"]) for m in other.messages] == [
            ("accepted", {"team": "platform"}),
            ("deleted", {"team": "platform"}),
        ]


async def test_failed_deliveries_are_retried_with_backoff_and_the_same_id(harness: EngineHarness) -> None:
    clock = FakeClock()
    async with (
        receiving(*[Reply(status=500)] * 5, Reply(status=503)) as receiver,
        delivering(harness, target(receiver.url), clock=clock, longest_delay=10) as outbox,
    ):
        await harness.apply(SPEC)
        await receiver.until(7)
        await harness.until(lambda: outbox.counts["ops"].results == {"delivered": 1})
    assert clock.slept == [1, 2, 4, 8, 10, 10]
    assert len(set(receiver.ids)) == 1
    assert outbox.counts["ops"].retries == 6


@pytest.mark.parametrize("header", ["77", formatdate(1_077.0, usegmt=True)])
async def test_retry_after_delays_the_next_attempt(harness: EngineHarness, header: str) -> None:
    clock = FakeClock()
    async with (
        receiving(Reply(status=429, headers={"Retry-After": header})) as receiver,
        delivering(harness, target(receiver.url), clock=clock),
    ):
        await harness.apply(SPEC)
        await receiver.until(2)
    assert clock.slept == [77]


async def test_an_event_that_is_too_old_is_not_delivered(harness: EngineHarness) -> None:
    clock = FakeClock()
    async with receiving(*[Reply(status=500)] * 1_000) as receiver:
        found = target(receiver.url, max_age=60, events=("accepted", "killed"))
        async with delivering(harness, found, clock=clock) as outbox:
            with capture_logs() as logs:
                await harness.apply(SPEC)
                await harness.until(lambda: outbox.counts["ops"].results == {"too_old": 1})
            assert sum(clock.slept) == pytest.approx(60)
            assert [log["event"] for log in logs if log["event"].startswith("notification")] == [
                "notification_delayed",
                "notification_expired",
            ]
            receiver.replies.clear()
            harness.now = clock.now
            await harness.engine.routes.command(
                "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
            )
            await harness.until(lambda: outbox.counts["ops"].results == {"too_old": 1, "delivered": 1})


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=404, body="no_service"),
        Reply(status=307, headers={"Location": "/hooks/elsewhere"}),
    ],
)
async def test_a_rejected_event_does_not_block_later_events(harness: EngineHarness, reply: Reply) -> None:
    async with receiving(reply) as receiver:
        with capture_logs() as logs:
            async with delivering(harness, target(receiver.url)) as outbox:
                await harness.apply(SPEC)
                await harness.engine.routes.command(
                    "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
                )
                await receiver.until(2)
                await harness.until(lambda: outbox.counts["ops"].results == {"refused": 1, "delivered": 1})
        assert receiver.kinds == ["accepted", "killed"]
        (refused,) = [log for log in logs if log["event"] == "notification_rejected"]
        assert (refused["target"], refused["route"], refused["status"]) == ("ops", "chat", reply.status)


async def test_a_hanging_target_does_not_delay_other_targets(
    harness: EngineHarness, receiver: Receiver
) -> None:
    async with (
        receiving(Reply(hangs=True)) as hung,
        delivering(harness, target(hung.url, "hung"), target(receiver.url), attempt_timeout=3_600),
    ):
        FakeProxy(harness.hub)
        await harness.apply(SPEC)
        await hung.until(1)
        for _ in range(20):
            await harness.engine.routes.command(
                "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
            )
            await harness.engine.routes.command(
                "chat", Action.UNKILL, by=Caller(actor="ada", reason="mended")
            )
        await harness.act(Action.ABORT)
        await harness.phase("RolledBack")
        expected = await history(harness)
        await receiver.until(len(expected))
        assert receiver.kinds == expected
        assert hung.kinds == ["accepted"]


async def test_a_missing_response_times_out(harness: EngineHarness) -> None:
    async with (
        receiving(Reply(hangs=True)) as receiver,
        delivering(harness, target(receiver.url), attempt_timeout=0.05) as outbox,
    ):
        with capture_logs() as logs:
            await harness.apply(SPEC)
            await receiver.until(2)
    assert outbox.counts["ops"].retries == 1
    assert {"no response within 0.05 s"} == {log["reason"] for log in logs if "reason" in log}


async def test_an_endless_response_is_cut_off(harness: EngineHarness) -> None:
    async with (
        receiving(Reply(endless=True)) as receiver,
        delivering(harness, target(receiver.url), attempt_timeout=3_600) as outbox,
    ):
        await harness.apply(SPEC)
        await harness.engine.routes.command("chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks"))
        await harness.until(lambda: outbox.counts["ops"].results == {"delivered": 2})


async def test_an_unreachable_target_is_retried_until_it_is_reachable(harness: EngineHarness) -> None:
    port, clock = free_port(), FakeClock()
    async with delivering(harness, target(f"http://127.0.0.1:{port}/hooks/wH1sp3r"), clock=clock) as outbox:
        with capture_logs() as logs:
            await harness.apply(SPEC)
            await harness.until(lambda: outbox.counts["ops"].retries > 2)
        async with receiving(port=port) as receiver:
            await receiver.until(1)
    assert receiver.kinds == ["accepted"]
    assert "Connection refused" in str(logs)
    assert "wH1sp3r" not in str(logs)


async def test_a_restart_resumes_at_the_saved_cursor(harness: EngineHarness) -> None:
    async with receiving(Reply(), Reply(hangs=True)) as receiver:
        found = target(receiver.url)
        async with delivering(harness, found, attempt_timeout=3_600):
            await harness.apply(SPEC)
            await harness.engine.routes.command(
                "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
            )
            await receiver.until(2)
        await harness.engine.routes.command("chat", Action.UNKILL, by=Caller(actor="ada", reason="mended"))
        async with delivering(harness, found):
            await receiver.until(4)
    assert receiver.kinds == ["accepted", "killed", "killed", "unkilled"]
    assert len(set(receiver.ids)) == 3


async def test_events_after_the_saved_cursor_are_delivered_again_with_the_same_id(tmp_path: Path) -> None:
    class FailingToSave(SqliteStore):
        def save_cursors(self, cursors: Mapping[str, Cursor]) -> None:
            raise StoreError("the disk is full")

    path = tmp_path / "state.sqlite"
    async with receiving() as receiver, running_engine(path) as harness:
        found, own_store = target(receiver.url), harness.store
        harness.store = FailingToSave(path)
        async with delivering(harness, found) as outbox:
            await harness.apply(SPEC)
            await harness.until(lambda: outbox.counts["ops"].results == {"delivered": 1})
        harness.store.close()
        harness.store = own_store
        async with delivering(harness, found):
            await receiver.until(2)
    assert receiver.kinds == ["accepted", "accepted"]
    assert len(set(receiver.ids)) == 1


async def test_a_new_target_receives_only_new_events(harness: EngineHarness, receiver: Receiver) -> None:
    await harness.apply(SPEC)
    async with delivering(harness, target(receiver.url)):
        await harness.engine.routes.command("chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks"))
        await receiver.until(1)
    # A target that was removed and added again is a new target.
    async with delivering(harness, target(receiver.url, "other")):
        await harness.engine.routes.command("chat", Action.UNKILL, by=Caller(actor="ada", reason="mended"))
        await receiver.until(2)
    async with delivering(harness, target(receiver.url)):
        await harness.engine.routes.command("chat", Action.KILL, by=Caller(actor="ada", reason="again"))
        await receiver.until(3)
    assert receiver.kinds == ["killed", "unkilled", "killed"]


async def test_a_failed_read_of_the_store_is_retried(tmp_path: Path) -> None:
    class FailingToRead(SqliteStore):
        failures = 2

        def events_after(self, cursor: Cursor, limit: int) -> Any:
            self.failures -= 1
            if self.failures >= 0:
                raise StoreError("the disk is gone")
            return super().events_after(cursor, limit)

    path = tmp_path / "state.sqlite"
    async with receiving() as receiver, running_engine(path) as harness:
        own_store = harness.store
        harness.store = FailingToRead(path)
        async with delivering(harness, target(receiver.url), poll_interval=0.01):
            await harness.apply(SPEC)
            await harness.engine.routes.command(
                "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
            )
            await receiver.until(2)
        harness.store.close()
        harness.store = own_store
    assert receiver.kinds == ["accepted", "killed"]


async def test_messages_are_signed_with_the_secret_of_the_target(
    harness: EngineHarness, receiver: Receiver
) -> None:
    async with delivering(harness, target(receiver.url, secret=Secret("between us"))):
        await harness.apply(SPEC)
        await receiver.until(1)
    (headers,), (body,) = receiver.headers, receiver.bodies
    stamp, given = headers["X-Shiftplane-Timestamp"], headers["X-Shiftplane-Signature"]
    verify(b"between us", timestamp=stamp, given=given, body=body, now=1_000)


async def test_an_event_during_a_read_of_the_history_is_not_missed(tmp_path: Path) -> None:
    class SlowStore(SqliteStore):
        read, resume = threading.Event(), threading.Event()

        def events_after(self, cursor: Cursor, limit: int) -> Any:
            found = super().events_after(cursor, limit)
            self.read.set()
            assert self.resume.wait(10)
            return found

    path = tmp_path / "state.sqlite"
    async with receiving() as receiver, running_engine(path) as harness:
        own_store, slow = harness.store, SlowStore(path)
        harness.store = slow
        async with delivering(harness, target(receiver.url)):
            assert await asyncio.to_thread(slow.read.wait, 10)
            await harness.apply(SPEC)
            slow.resume.set()
            await receiver.until(1)
        slow.close()
        harness.store = own_store
    assert receiver.kinds == ["accepted"]


async def test_events_of_another_writer_are_found_by_polling(
    harness: EngineHarness, receiver: Receiver
) -> None:
    async with delivering(harness, target(receiver.url), poll_interval=0.01):
        harness.observer.on_event = lambda: None
        await harness.apply(SPEC)
        await receiver.until(1)
    assert receiver.kinds == ["accepted"]

"""A real server with faults, an engine over a real store: who is told of what, and how often."""

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
from xds_server.notifications.delivery import Outbox, RetryPolicy
from xds_server.notifications.messages import Format, Notifications, Secret, Target
from xds_server.store import Mark, SqliteStore, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

SPEC = route(V1, V2, CANARY).replace("{name: chat}", "{name: chat, labels: {team: platform}}")


class Time:
    """The outbox's clock; whoever sleeps is woken at once, later."""

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
async def telling(
    harness: EngineHarness, *targets: Target, time: Time | None = None, **patience: float
) -> Any:
    time = time or Time()
    outbox = Outbox(
        harness.store,
        Notifications(targets=targets),
        RetryPolicy(**{"look": 3_600, **patience}),
        clock=lambda: time.now,
        sleep=time.sleep,
        chance=lambda: 1.0,
    )
    await outbox.begin()
    harness.observer.on_event = outbox.wake
    running = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def history(harness: EngineHarness) -> list[str]:
    return [event.kind for event in await harness.engine.queries.events("chat", 100)]


async def test_everything_is_told_in_its_order_once(harness: EngineHarness, receiver: Receiver) -> None:
    async with telling(harness, target(receiver.url)) as outbox:
        FakeProxy(harness.hub)
        await harness.apply(SPEC)
        await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
        await harness.act(Action.ABORT)
        await harness.phase("RolledBack")
        expected = await history(harness)
        await receiver.until(len(expected))
        # Who was told is counted once the answer is there, a moment after the receiver has it.
        await harness.until(lambda: outbox.counts["ops"].results == {"delivered": len(expected)})
    assert receiver.kinds == expected
    assert (expected[0], expected[-1]) == ("accepted", "rolled_back")
    assert len(set(receiver.ids)) == len(expected)
    assert all(message["labels"] == {"team": "platform"} for message in receiver.messages)


async def test_each_target_is_told_what_it_asked_for(harness: EngineHarness, receiver: Receiver) -> None:
    async with receiving() as other, receiving() as third:
        kills = target(receiver.url, "kills", events=("kill*", "unkilled"))
        ours = target(other.url, "ours", labels={"team": "platform"}, events=("deleted", "accepted"))
        theirs = target(third.url, "theirs", labels={"team": "search"})
        async with telling(harness, kills, ours, theirs) as outbox:
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
        assert receiver.kinds == ["killed", "unkilled"]
        assert receiver.messages[0]["message"] == "v1 serves everyone: v2 leaks"
        # A route that is gone still has the labels it had.
        assert [(m["kind"], m["labels"]) for m in other.messages] == [
            ("accepted", {"team": "platform"}),
            ("deleted", {"team": "platform"}),
        ]
        assert outbox.counts["theirs"].results == {}


async def test_what_fails_is_tried_again_later_and_later_with_the_same_id(harness: EngineHarness) -> None:
    time = Time()
    async with (
        receiving(*[Reply(status=500)] * 5, Reply(status=503)) as receiver,
        telling(harness, target(receiver.url), time=time, first=1, longest=10) as outbox,
    ):
        await harness.apply(SPEC)
        await receiver.until(7)
        await harness.until(lambda: outbox.counts["ops"].results == {"delivered": 1})
    assert time.slept == [1, 2, 4, 8, 10, 10]
    assert len(set(receiver.ids)) == 1
    assert outbox.counts["ops"].retries == 6


@pytest.mark.parametrize("said", ["77", formatdate(1_077.0, usegmt=True)])
async def test_a_target_says_how_long_to_stay_away(harness: EngineHarness, said: str) -> None:
    time = Time()
    async with (
        receiving(Reply(status=429, headers={"Retry-After": said})) as receiver,
        telling(harness, target(receiver.url), time=time),
    ):
        await harness.apply(SPEC)
        await receiver.until(2)
    assert time.slept == [77]


async def test_news_that_is_old_is_none(harness: EngineHarness) -> None:
    time = Time()
    async with receiving(*[Reply(status=500)] * 1_000) as receiver:
        found = target(receiver.url, max_age=60, events=("accepted", "killed"))
        async with telling(harness, found, time=time) as outbox:
            with capture_logs() as logs:
                await harness.apply(SPEC)
                await harness.until(lambda: outbox.counts["ops"].results == {"too_old": 1})
            assert sum(time.slept) == pytest.approx(60)
            assert [log["event"] for log in logs if log["event"].startswith("notification")] == [
                "notification_delayed",
                "notification_too_old",
            ]
            receiver.replies.clear()
            harness.now = time.now
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
async def test_what_is_refused_is_told_no_more_and_keeps_nothing_up(
    harness: EngineHarness, reply: Reply
) -> None:
    async with receiving(reply) as receiver:
        with capture_logs() as logs:
            async with telling(harness, target(receiver.url)) as outbox:
                await harness.apply(SPEC)
                await harness.engine.routes.command(
                    "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
                )
                await receiver.until(2)
                await harness.until(lambda: outbox.counts["ops"].results == {"refused": 1, "delivered": 1})
        assert receiver.kinds == ["accepted", "killed"]
        (refused,) = [log for log in logs if log["event"] == "notification_refused"]
        assert (refused["target"], refused["route"], refused["status"]) == ("ops", "chat", reply.status)


async def test_a_target_that_hangs_keeps_nobody_else_waiting(
    harness: EngineHarness, receiver: Receiver
) -> None:
    async with (
        receiving(Reply(hangs=True)) as hung,
        telling(harness, target(hung.url, "hung"), target(receiver.url), timeout=3_600),
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


async def test_an_answer_that_does_not_come_is_not_waited_for(harness: EngineHarness) -> None:
    async with (
        receiving(Reply(hangs=True)) as receiver,
        telling(harness, target(receiver.url), timeout=0.05) as outbox,
    ):
        with capture_logs() as logs:
            await harness.apply(SPEC)
            await receiver.until(2)
    assert outbox.counts["ops"].retries == 1
    assert {"no answer within 0.05 s"} == {log["reason"] for log in logs if "reason" in log}


async def test_an_answer_without_end_is_cut_off(harness: EngineHarness) -> None:
    async with (
        receiving(Reply(endless=True)) as receiver,
        telling(harness, target(receiver.url), timeout=3_600) as outbox,
    ):
        await harness.apply(SPEC)
        await harness.engine.routes.command("chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks"))
        await harness.until(lambda: outbox.counts["ops"].results == {"delivered": 2})


async def test_nobody_there_is_tried_until_somebody_is(harness: EngineHarness) -> None:
    port, time = free_port(), Time()
    async with telling(harness, target(f"http://127.0.0.1:{port}/hooks/wH1sp3r"), time=time) as outbox:
        with capture_logs() as logs:
            await harness.apply(SPEC)
            await harness.until(lambda: outbox.counts["ops"].retries > 2)
        async with receiving(port=port) as receiver:
            await receiver.until(1)
    assert receiver.kinds == ["accepted"]
    assert "Connection refused" in str(logs)
    assert "wH1sp3r" not in str(logs)


async def test_a_restart_takes_up_where_it_was(harness: EngineHarness) -> None:
    async with receiving(Reply(), Reply(hangs=True)) as receiver:
        found = target(receiver.url)
        async with telling(harness, found, timeout=3_600):
            await harness.apply(SPEC)
            await harness.engine.routes.command(
                "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
            )
            await receiver.until(2)
        await harness.engine.routes.command("chat", Action.UNKILL, by=Caller(actor="ada", reason="mended"))
        async with telling(harness, found):
            await receiver.until(4)
    assert receiver.kinds == ["accepted", "killed", "killed", "unkilled"]
    assert len(set(receiver.ids)) == 3


async def test_what_a_crash_forgets_is_told_again_with_the_same_id(tmp_path: Path) -> None:
    class Forgetful(SqliteStore):
        def keep_marks(self, marks: Mapping[str, Mark]) -> None:
            raise StoreError("the disk is full")

    path = tmp_path / "state.sqlite"
    async with receiving() as receiver, running_engine(path) as harness:
        found, own = target(receiver.url), harness.store
        harness.store = Forgetful(path)
        async with telling(harness, found) as outbox:
            await harness.apply(SPEC)
            await harness.until(lambda: outbox.counts["ops"].results == {"delivered": 1})
        harness.store.close()
        harness.store = own
        async with telling(harness, found):
            await receiver.until(2)
    assert receiver.kinds == ["accepted", "accepted"]
    assert len(set(receiver.ids)) == 1


async def test_a_new_target_begins_with_what_comes_next(harness: EngineHarness, receiver: Receiver) -> None:
    await harness.apply(SPEC)
    async with telling(harness, target(receiver.url)):
        await harness.engine.routes.command("chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks"))
        await receiver.until(1)
    # One that was taken away and comes back is new.
    async with telling(harness, target(receiver.url, "other")):
        await harness.engine.routes.command("chat", Action.UNKILL, by=Caller(actor="ada", reason="mended"))
        await receiver.until(2)
    async with telling(harness, target(receiver.url)):
        await harness.engine.routes.command("chat", Action.KILL, by=Caller(actor="ada", reason="again"))
        await receiver.until(3)
    assert receiver.kinds == ["killed", "unkilled", "killed"]


async def test_a_store_that_fails_is_asked_again(tmp_path: Path) -> None:
    class Failing(SqliteStore):
        failures = 2

        def lines(self, after: Mark, limit: int) -> Any:
            self.failures -= 1
            if self.failures >= 0:
                raise StoreError("the disk is gone")
            return super().lines(after, limit)

    path = tmp_path / "state.sqlite"
    async with receiving() as receiver, running_engine(path) as harness:
        own = harness.store
        harness.store = Failing(path)
        async with telling(harness, target(receiver.url), look=0.01):
            await harness.apply(SPEC)
            await harness.engine.routes.command(
                "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
            )
            await receiver.until(2)
        harness.store.close()
        harness.store = own
    assert receiver.kinds == ["accepted", "killed"]


async def test_what_arrives_is_signed(harness: EngineHarness, receiver: Receiver) -> None:
    async with telling(harness, target(receiver.url, secret=Secret("between us"))):
        await harness.apply(SPEC)
        await receiver.until(1)
    (headers,), (body,) = receiver.headers, receiver.bodies
    stamp, given = headers["X-Shiftplane-Timestamp"], headers["X-Shiftplane-Signature"]
    verify(b"between us", timestamp=stamp, given=given, body=body, now=1_000)


async def test_what_happens_while_history_is_read_is_not_missed(tmp_path: Path) -> None:
    class Slow(SqliteStore):
        read, gate = threading.Event(), threading.Event()

        def lines(self, after: Mark, limit: int) -> Any:
            found = super().lines(after, limit)
            self.read.set()
            assert self.gate.wait(10)
            return found

    path = tmp_path / "state.sqlite"
    async with receiving() as receiver, running_engine(path) as harness:
        own, slow = harness.store, Slow(path)
        harness.store = slow
        async with telling(harness, target(receiver.url)):
            assert await asyncio.to_thread(slow.read.wait, 10)
            await harness.apply(SPEC)
            slow.gate.set()
            await receiver.until(1)
        slow.close()
        harness.store = own
    assert receiver.kinds == ["accepted"]


async def test_what_somebody_else_wrote_is_found_too(harness: EngineHarness, receiver: Receiver) -> None:
    async with telling(harness, target(receiver.url), look=0.01):
        harness.observer.on_event = lambda: None
        await harness.apply(SPEC)
        await receiver.until(1)
    assert receiver.kinds == ["accepted"]

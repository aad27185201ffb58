"""Traffic against the simulated server and against servers with deliberate faults."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from demo.simulated import NO_FAULT, Fault, FaultMode
from demo.traffic import Failure, Traffic, TrafficConfig, TrafficSnapshot, split_sample
from tests.support.simulated import CHAT, LIMIT_SECONDS, serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ROOT = Path(__file__).parents[2]


def brief(url: str, **settings: Any) -> TrafficConfig:
    """Return the configuration of twenty requests in 0.2 seconds."""
    defaults: dict[str, Any] = {"url": url, "rate": 100.0, "duration": 0.2, "users": 10}
    return TrafficConfig(**(defaults | settings))


@asynccontextmanager
async def answering(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post(CHAT, handler)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def outcome(url: str, **settings: Any) -> tuple[TrafficSnapshot, Traffic]:
    traffic = Traffic(brief(url, **settings))
    return await traffic.run(), traffic


async def test_steady_traffic_gets_whole_answers() -> None:
    async with serving(keep_requests=100) as (server, _):
        snapshot, traffic = await outcome(server.url)
        received = server.log.document(only=["x-user-id"], limit=100)
    assert (snapshot.sent, snapshot.ok, snapshot.failed, snapshot.in_flight) == (20, 20, 0, 0)
    assert snapshot.by_variant == {None: 20}
    assert snapshot.by_status == {200: 20}
    assert {record.stream for record in traffic.records} == {True, False}
    assert all(record.ok and record.first_byte_ms is not None for record in traffic.records)
    sent = sorted(record.user for record in traffic.records)
    assert sorted(entry["headers"]["x-user-id"] for entry in received["last"]) == sent
    assert set(sent) <= {f"user-{number:05}" for number in range(10)}


async def test_the_same_seed_asks_the_same() -> None:
    asked = []
    async with serving() as (server, _):
        for seed in (4, 4, 5):
            _, traffic = await outcome(server.url, seed=seed)
            records = sorted(traffic.records, key=lambda record: record.sequence)
            asked.append([(record.user, record.prompt, record.stream) for record in records])
    assert asked[0] == asked[1]
    assert asked[0] != asked[2]


@pytest.mark.parametrize(("share", "mode"), [(0.0, "plain"), (1.0, "stream")])
async def test_stream_share(share: float, mode: str) -> None:
    async with serving() as (server, _):
        await outcome(server.url, stream_share=share)
        assert server.log.document(only=[], limit=0)["by_mode"] == {mode: 20}


async def test_variant_and_request_id_are_read_from_the_answer() -> None:
    async def handler(request: web.Request) -> web.Response:
        variant = "v2" if request.headers["x-user-id"] < "user-00005" else "v1"
        headers = {"x-shiftplane-variant": variant, "x-request-id": "r-1", "x-region": "eu"}
        assert request.headers["x-region"] == "eu"
        return web.json_response({"choices": [{}]}, headers=headers)

    async with answering(handler) as url:
        snapshot, traffic = await outcome(url, stream_share=0.0, headers=(("x-region", "eu"),))
    assert snapshot.failed == 0
    assert set(snapshot.by_variant) == {"v1", "v2"}
    assert all(record.variant == ("v2" if record.user < "user-00005" else "v1") for record in traffic.records)
    assert {record.request_id for record in traffic.records} == {"r-1"}


@pytest.mark.parametrize(
    ("mode", "share", "failure"),
    [
        (FaultMode.ERROR, 0.0, Failure.STATUS),
        (FaultMode.ERROR, 1.0, Failure.STATUS),
        (FaultMode.CUT_STREAM, 1.0, Failure.CUT_STREAM),
        (FaultMode.CUT_STREAM, 0.0, Failure.DISCONNECTED),
        (FaultMode.GIBBERISH, 0.5, None),
    ],
)
async def test_each_fault_has_its_own_failure(mode: FaultMode, share: float, failure: Failure | None) -> None:
    async with serving(fault=Fault(mode=mode)) as (server, _):
        snapshot, _ = await outcome(server.url, stream_share=share)
    assert snapshot.by_failure == ({} if failure is None else {failure: 20})
    assert snapshot.sent == 20


async def test_no_answer_in_time_is_a_timeout() -> None:
    async with serving(fault=Fault(mode=FaultMode.HANG)) as (server, _):
        snapshot, _ = await outcome(server.url, request_timeout=0.2)
    assert snapshot.by_failure == {Failure.TIMEOUT: 20}


async def test_no_server_is_a_connect_failure() -> None:
    with socket.socket() as bound_and_not_listening:
        bound_and_not_listening.bind(("127.0.0.1", 0))
        port = bound_and_not_listening.getsockname()[1]
        snapshot, traffic = await outcome(f"http://127.0.0.1:{port}")
    assert snapshot.by_failure == {Failure.CONNECT: 20}
    assert snapshot.by_variant == {}
    assert all(record.status is None and record.detail for record in traffic.records)


@pytest.mark.parametrize(
    ("stream", "body", "failure"),
    [
        (False, b"{", Failure.INVALID_JSON),
        (False, b'{"choices": []}', Failure.INVALID_JSON),
        (False, b"[]", Failure.INVALID_JSON),
        (True, b"data: {\n\ndata: [DONE]\n\n", Failure.INVALID_JSON),
        (True, b'data: {"error": {"message": "no"}}\n\ndata: [DONE]\n\n', Failure.STREAM_ERROR),
        (True, b'data: {"choices": []}\n\n', Failure.CUT_STREAM),
        (True, b"", Failure.CUT_STREAM),
        (True, b': hello\n\nevent: x\r\ndata:{"choices": []}\r\n\r\ndata: [DONE]\n\n', None),
    ],
)
async def test_answers_are_judged(stream: bool, body: bytes, failure: Failure | None) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with answering(handler) as url:
        snapshot, _ = await outcome(url, stream_share=float(stream))
    assert snapshot.by_failure == ({} if failure is None else {failure: 20})


async def test_stop_ends_a_run_without_duration_and_waits_for_answers() -> None:
    async with serving(first_token=0.05) as (server, _):
        traffic = Traffic(brief(server.url, duration=None))
        running = asyncio.create_task(traffic.run())
        await until(lambda: traffic.snapshot().sent >= 5)
        assert traffic.snapshot().elapsed > 0
        traffic.stop()
        async with asyncio.timeout(LIMIT_SECONDS):
            snapshot = await running
    assert snapshot.ok == snapshot.sent >= 5
    assert snapshot.in_flight == 0


async def test_requests_beyond_the_bound_are_held_back_and_counted() -> None:
    async with serving(fault=Fault(mode=FaultMode.HANG)) as (server, _):
        traffic = Traffic(brief(server.url, max_in_flight=3))
        running = asyncio.create_task(traffic.run())
        await until(lambda: traffic.snapshot().held_back == 17 and server.log.running == 3)
        server.faults.put(NO_FAULT)
        snapshot = await running
    assert (snapshot.sent, snapshot.held_back) == (3, 17)
    assert snapshot.by_failure == {Failure.DISCONNECTED: 3}


async def test_cancelling_a_run_leaves_nothing_running() -> None:
    async with serving(fault=Fault(mode=FaultMode.HANG)) as (server, _):
        traffic = Traffic(brief(server.url, duration=None))
        running = asyncio.create_task(traffic.run())
        await until(lambda: server.log.running >= 3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: server.log.running == 0)
        assert traffic.snapshot().in_flight == 0


async def test_records_are_bounded() -> None:
    async with serving() as (server, _):
        snapshot, traffic = await outcome(server.url, max_records=5)
    assert snapshot.ok == 20
    assert len(traffic.records) == 5


@pytest.mark.parametrize(
    "settings",
    [{"users": 0}, {"rate": 0.0}, {"rate": float("inf")}, {"stream_share": 1.5}, {"max_records": 0}],
)
def test_configurations_that_cannot_run_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        TrafficConfig(url="http://127.0.0.1", **settings)


async def test_split_sample_asks_once_for_every_user() -> None:
    async def handler(request: web.Request) -> web.Response:
        number = int(request.headers["x-user-id"].rpartition("-")[2])
        headers = {"x-shiftplane-variant": "v2" if number % 20 == 0 else "v1"}
        return web.json_response({"choices": [{}]}, headers=headers)

    async with answering(handler) as url:
        sample = await split_sample(url, 400, 16, "sample")
    assert (sample.total, sample.failed) == (400, 0)
    assert sample.by_variant == {"v1": 380, "v2": 20}
    assert sample.share("v2") == pytest.approx(0.05)
    assert len(sample.by_user) == 400
    assert sample.by_user["sample-00020"] == "v2"
    assert sample.by_user["sample-00399"] == "v1"


async def test_split_sample_without_variants_and_with_failures() -> None:
    async with serving(fault=Fault(mode=FaultMode.ERROR, rate=0.5)) as (server, _):
        sample = await split_sample(server.url, 100, 8, "sample")
        counted = server.log.document(only=[], limit=0)
    assert sample.failed == counted["by_status"]["500"]
    assert sample.by_failure == {Failure.STATUS: sample.failed}
    assert sample.by_variant == {None: 100 - sample.failed}
    assert set(sample.by_user.values()) == {None}
    assert sample.share("v1") == 0.0


async def test_split_sample_ends_when_its_time_is_over() -> None:
    async with serving(fault=Fault(mode=FaultMode.HANG)) as (server, _):
        sample = await split_sample(server.url, 50, 4, "sample", seconds=0.3)
    assert (sample.total, sample.failed) == (50, 50)
    assert sample.by_failure == {Failure.UNANSWERED: 50}
    assert sample.by_user == {}


# The command line, as a program.


@asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo.traffic", *arguments, stdout=pipe, stderr=pipe, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finished(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_command_reports_json_and_writes_records(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    arguments = ("--rate", "100", "--duration", "200ms", "-o", "json", "--records", str(records))
    async with serving() as (server, _), command("--url", server.url, *arguments) as process:
        code, out = await finished(process)
    report = json.loads(out)
    assert code == 0
    assert (report["sent"], report["ok"], report["by_variant"]) == (20, 20, {"(none)": 20})
    assert len([json.loads(line) for line in records.read_text().splitlines()]) == 20


async def test_command_exits_1_when_an_answer_was_bad() -> None:
    async with (
        serving(fault=Fault(mode=FaultMode.ERROR)) as (server, _),
        command("--url", server.url, "--rate", "100", "--duration", "50ms") as process,
    ):
        code, out = await finished(process)
    assert code == 1
    assert "status 5" in out


async def test_command_counts_a_split() -> None:
    async with (
        serving() as (server, _),
        command("--url", server.url, "--split", "50", "-o", "json") as process,
    ):
        code, out = await finished(process)
    assert code == 0
    assert json.loads(out)["total"] == 50


async def test_command_ends_cleanly_on_ctrl_c() -> None:
    async with (
        serving() as (server, _),
        command("--url", server.url, "--duration", "10m", "-o", "json") as process,
    ):
        await until(lambda: server.log.document(only=[], limit=0)["total"] >= 3)
        process.send_signal(signal.SIGINT)
        code, out = await finished(process)
    assert code == 0
    assert json.loads(out)["ok"] >= 3


async def test_command_gives_up_on_answers_after_ctrl_c_twice() -> None:
    async with (
        serving(fault=Fault(mode=FaultMode.HANG)) as (server, _),
        command("--url", server.url, "--duration", "10m") as process,
    ):
        await until(lambda: server.log.running >= 3)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        async with asyncio.timeout(LIMIT_SECONDS):
            assert b"again" in await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        code, out = await finished(process)
    assert code == 130
    assert out == ""


async def test_command_refuses_wrong_arguments() -> None:
    async with command("--url", "http://127.0.0.1:1", "--rate", "0") as process:
        code, _ = await finished(process)
    assert code == 2

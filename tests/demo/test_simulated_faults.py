"""Every fault of the simulated server, over a real socket."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

from demo.simulated import Fault, FaultMode
from tests.support.simulated import ASK, CHAT, put_fault, serving, text_of, until


async def test_error_fault_hits_its_share() -> None:
    statuses = []
    async with serving(seed=5) as (server, session):
        await put_fault(session, "error", 0.5)
        for _attempt in range(100):
            async with session.post(CHAT, json=ASK) as response:
                document = await response.json()
            statuses.append(response.status)
            if response.status == 500:
                assert document["error"]["type"] == "InternalServerError"
                assert document["error"]["code"] == 500
        counted = server.log.document(only=[], limit=0)
    assert set(statuses) == {200, 500}
    assert 25 <= statuses.count(500) <= 75
    assert counted["by_status"]["500"] == counted["by_fault"]["error"] == statuses.count(500)


async def test_faults_do_not_affect_health_and_models() -> None:
    async with serving(fault=Fault(mode=FaultMode.ERROR)) as (_, session):
        for path in ("/health", "/v1/models"):
            async with session.get(path) as response:
                assert response.status == 200


async def test_slow_fault_delays_the_first_token() -> None:
    async with serving(fault=Fault(mode=FaultMode.SLOW)) as (_, session):
        await text_of(session)
        async with session.get("/metrics") as response:
            exposed = await response.text()
    sums = [
        float(line.split()[-1])
        for line in exposed.splitlines()
        if line.startswith("vllm:time_to_first_token_seconds_sum")
    ]
    assert sums == [pytest.approx(0.1)]


async def test_the_gibberish_fault_returns_a_well_formed_answer() -> None:
    async with serving() as (_, session):
        sense = await text_of(session, temperature=0)
        await put_fault(session, "gibberish")
        nonsense = await text_of(session, temperature=0)
    assert not set(sense.split()) & set(nonsense.split())


async def test_hung_requests_are_released_when_the_fault_is_changed() -> None:
    async with serving() as (server, session):
        await put_fault(session, "hang")
        hung = asyncio.create_task(text_of(session))
        await until(lambda: server.log.running == 1)
        await until(lambda: bool(server.log.document(only=[], limit=1)["last"][0]["body_bytes"]))
        assert not hung.done()
        await put_fault(session, "none")
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await hung
        assert await text_of(session)


@pytest.mark.parametrize("mode", ["hang", "refuse_read"])
async def test_stopping_releases_held_requests(mode: str) -> None:
    async with serving(fault=Fault(mode=FaultMode(mode))) as (server, session):
        held = asyncio.create_task(text_of(session))
        await until(lambda: server.log.running == 1)
        await server.stop()
        with pytest.raises(aiohttp.ClientError):
            await held


async def test_refuse_read_stalls_a_large_upload() -> None:
    upload = b"x" * 16_000_000
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(upload)}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    async with serving() as (server, session):
        port = int(server.url.rpartition(":")[2])
        with socket.socket() as reading, socket.socket() as refused:
            for connection in (reading, refused):
                connection.setblocking(False)
                await loop.sock_connect(connection, ("127.0.0.1", port))
            async with asyncio.timeout(20):
                await loop.sock_sendall(reading, head + upload)
            await put_fault(session, "refuse_read")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await loop.sock_sendall(refused, head + upload)
            held = server.log.document(only=[], limit=1)["last"][0]
            assert (held["fault"], held["body_bytes"], held["status"]) == ("refuse_read", None, None)
            await put_fault(session, "none")
            async with asyncio.timeout(20):
                await until(lambda: server.log.running == 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_cut_stream_drops_the_connection_midway(stream: bool) -> None:
    async with serving() as (server, session):
        whole = await text_of(session, temperature=0)
        await put_fault(session, "cut_stream")
        got = bytearray()
        async with session.post(CHAT, json=ASK | {"temperature": 0, "stream": stream}) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012 - the bytes before the error are checked too
                async for chunk in response.content.iter_any():
                    got += chunk
        counted = server.log.document(only=[], limit=0)
    assert got
    assert b"[DONE]" not in got
    assert whole.encode() not in got
    assert counted["by_fault"]["cut_stream"] == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"{",
        b"[]",
        b'{"mode": "melt"}',
        b'{"mode": "slow", "rate": 2}',
        b'{"mode": "slow", "share": 1}',
        b"{}",
    ],
)
async def test_invalid_faults_are_rejected(bad: bytes) -> None:
    async with serving() as (_, session):
        await put_fault(session, "slow", 0.5)
        async with session.post("/_sim/faults", data=bad) as response:
            assert response.status == 400
            assert "error" in await response.json()
        async with session.get("/_sim/faults") as response:
            assert await response.json() == {"mode": "slow", "rate": 0.5}

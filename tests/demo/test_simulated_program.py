"""The simulated server as a program: its first line, its signals, its exit codes."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.simulated import ASK, CHAT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo.simulated_vllm", *arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(20):
            await process.communicate()


async def ready(process: asyncio.subprocess.Process) -> dict[str, str]:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
    assert line.startswith("simulated vLLM ready ")
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


async def test_program_finishes_a_running_stream_on_sigterm() -> None:
    settings = ("--port", "0", "--name", "v2", "--flavour", "b", "--first-token", "300ms")
    async with program(*settings) as process, aiohttp.ClientSession() as session:
        fields = await ready(process)
        async with session.post(f"{fields['url']}{CHAT}", json=ASK | {"stream": True}) as response:
            process.send_signal(signal.SIGTERM)
            body = await response.text()
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    assert (fields["name"], fields["flavour"], fields["version"]) == ("v2", "b", "0.32.0+simulated")
    assert body.endswith("data: [DONE]\n\n")


async def test_program_starts_with_a_fault_of_some_apis() -> None:
    flags = ("--fault", "error", "--fault-api", "score", "--fault-status", "429", "--compress", "gzip")
    async with program("--port", "0", *flags) as process, aiohttp.ClientSession() as session:
        url = (await ready(process))["url"]
        async with session.post(f"{url}/v1/score", json={"text_1": "a", "text_2": "b"}) as response:
            assert (response.status, response.headers["content-encoding"]) == (429, "gzip")
        async with session.post(f"{url}{CHAT}", json=ASK) as response:
            assert response.status == 200


@pytest.mark.parametrize("flag", ["--fault-status=200", "--fault-rate=2"])
async def test_program_rejects_an_invalid_fault(flag: str) -> None:
    async with program("--port", "0", "--fault", "error", flag) as process, asyncio.timeout(60):
        assert await process.wait() == 2


async def test_program_reports_an_address_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with program("--port", str(taken.getsockname()[1])) as process, asyncio.timeout(60):
            assert await process.wait() == 1

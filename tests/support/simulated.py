"""A simulated model server and a client for it, in the event loop of the test."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from demo.simulated import SimulatedConfig, SimulatedVllm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {
    "model": "chat-large",
    "messages": [{"role": "user", "content": "How do glaciers shape valleys?"}],
}
LIMIT_SECONDS = 20.0


def instant(**settings: Any) -> SimulatedConfig:
    """Return the settings of a server without delays, changed by `settings`."""
    return SimulatedConfig(**({"first_token": 0.0, "inter_token": 0.0} | settings))


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[SimulatedVllm, aiohttp.ClientSession]]:
    timeout = aiohttp.ClientTimeout(total=LIMIT_SECONDS)
    async with (
        SimulatedVllm(instant(**settings)) as server,
        aiohttp.ClientSession(server.url, timeout=timeout) as session,
    ):
        yield server, session


async def until(condition: Callable[[], bool]) -> None:
    """Yield to other tasks until the condition holds; fail after a time limit."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():
            await asyncio.sleep(0)


def events(body: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON events of a stream; the last line must be the end mark."""
    datas = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert datas[-1] == "[DONE]"
    for data in datas[:-1]:
        yield json.loads(data)


async def put_fault(session: aiohttp.ClientSession, mode: str, rate: float = 1.0) -> None:
    async with session.post("/_sim/faults", json={"mode": mode, "rate": rate}) as response:
        assert response.status == 200
        assert await response.json() == {"mode": mode, "rate": rate}


async def text_of(session: aiohttp.ClientSession, **fields: Any) -> str:
    """Return the text of a response that is not a stream."""
    async with session.post(CHAT, json=ASK | fields) as response:
        assert response.status == 200
        content = (await response.json())["choices"][0]["message"]["content"]
        assert isinstance(content, str)
        return content

"""Requests at a steady rate from many connections, with a count of the status codes; bounded in time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from tests.support.raw_http import read_head

__all__ = ["SteadyLoad"]

_CONNECTIONS: Final = 32
_BODY: Final = b'{"model":"chat-large","messages":[{"role":"user","content":"hello"}],"max_tokens":100}'


@dataclass(slots=True)
class SteadyLoad:
    """A load generator for one proxy; `rate` is in requests per second, `codes` counts status codes."""

    entry: str
    seed: int
    rate: float
    codes: Counter[str] = field(default_factory=Counter)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, seconds: float) -> None:
        """Send requests until `stop` is called, for `seconds` at most."""
        rng = random.Random(self.seed)
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(_CONNECTIONS):
                tasks.create_task(self._send(random.Random(rng.random() + number), end))

    def stop(self) -> None:
        """Send no further requests; answers to earlier ones are still received."""
        self._stop.set()

    async def _send(self, rng: random.Random, end: float) -> None:
        where = urlsplit(self.entry)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        clock = asyncio.get_running_loop().time
        due = clock() + rng.random() * _CONNECTIONS / self.rate
        try:
            while not self._stop.is_set() and clock() < end:
                await asyncio.sleep(max(0.0, due - clock()))
                due += rng.expovariate(self.rate / _CONNECTIONS)
                head = (
                    "POST /v1/chat/completions HTTP/1.1\r\nhost: chat\r\ncontent-type: application/json\r\n"
                    f"x-user-id: u{rng.randrange(100_000)}\r\ncontent-length: {len(_BODY)}\r\n\r\n"
                )
                writer.write(head.encode() + _BODY)
                status, _ = await read_head(reader)
                self.codes[status] += 1
        finally:
            writer.close()

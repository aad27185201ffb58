"""A fast simulated model server with configurable faults, for tests of verdicts.

    python -m tests.support.arm --port 9001 --errors 0.04 --seed 3

It answers with JSON that contains `usage`. Latencies are drawn from a log-normal distribution.
`GET /outage?rate=0.2` sets the share of failed requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from dataclasses import dataclass
from typing import Final, cast

from demo.loops import loop_factory

_TEXT: Final = "x" * 4000


@dataclass(slots=True)
class Faults:
    """Shares of requests with each fault, the mean number of tokens and the median latency."""

    errors: float
    slow: float
    truncate: float
    tokens: float
    milliseconds: float


class Exchange(asyncio.Protocol):
    """One connection, with one request after the other."""

    def __init__(self, faults: Faults, rng: random.Random) -> None:
        self.faults, self.rng = faults, rng
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is none by inheritance.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + size:
                return
            self.buffer = self.buffer[end + 4 + size :]
            self.answer(head)

    def answer(self, head: bytes) -> None:
        path = head.split(b" ", 2)[1].decode()
        if path.startswith("/outage"):
            self.faults.errors = float(path.partition("rate=")[2])
            self.send(200, b"{}")
            return
        if path == "/health":
            self.send(200, b"{}")
            return
        faults, rng = self.faults, self.rng
        if rng.random() < faults.errors:
            self.send(500, b'{"error": "it failed on purpose"}')
            return
        wait = faults.milliseconds / 1000 * rng.lognormvariate(0, 0.3)
        if rng.random() < faults.slow:
            wait *= 4
        tokens = max(1, round(faults.tokens * rng.lognormvariate(0, 0.4)))
        usage = {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}
        message = {"role": "assistant", "content": _TEXT[: 4 * tokens]}
        body = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
        if rng.random() < faults.truncate:
            body = body[: len(body) // 2]
        asyncio.get_running_loop().call_later(wait, self.send, 200, body)

    def send(self, status: int, body: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            reason = "OK" if status == 200 else "Internal Server Error"
            head = (
                f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            )
            self.transport.write(head.encode() + b"\r\n\r\n" + body)


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    for name, usual in (("errors", 0.0), ("slow", 0.0), ("truncate", 0.0), ("tokens", 100.0), ("ms", 12.0)):
        parser.add_argument(f"--{name}", type=float, default=usual)
    args = parser.parse_args()
    faults = Faults(args.errors, args.slow, args.truncate, args.tokens, args.ms)
    rng = random.Random(args.seed)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Exchange(faults, rng), "127.0.0.1", args.port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_main())

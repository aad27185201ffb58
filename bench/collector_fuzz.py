"""Sends tens of thousands of invalid inputs to a collector, over gRPC and HTTP.

The collector must keep running, count its rejections by reason, and still store valid exchanges.

python bench/collector_fuzz.py --inputs 50000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.clients import nonsense
from bench.clients.captured import METHOD, feed
from bench.collector import Running, collector, templates
from mirror_collector.wire import accesslog_pb2 as wire

_BATCH = 25
_HTTP_PART = 10
"""One in this many inputs is sent over HTTP."""


async def over_grpc(running: Running, rng: random.Random, inputs: int) -> int:
    """Send invalid entries in batches, and sometimes random bytes as a message; return the number sent."""
    sent = 0
    async with grpc.aio.insecure_channel(
        running.grpc, options=(("grpc.max_send_message_length", -1),)
    ) as channel:
        call = channel.stream_unary(METHOD)()
        while sent < inputs:
            if rng.randrange(50) == 0:
                await call.write(rng.randbytes(rng.randrange(1, 300)))
                sent += 1
                continue
            message = wire.StreamAccessLogsMessage()
            message.http_logs.log_entry.extend(nonsense.entry(rng) for _ in range(_BATCH))
            message.identifier = rng.randbytes(20)
            await call.write(message.SerializeToString())
            sent += _BATCH
        await call.done_writing()
        await call
    return sent


async def over_http(running: Running, rng: random.Random, inputs: int) -> dict[int, int]:
    """Post invalid documents; return the number of responses by status."""
    answers: dict[int, int] = {}
    async with aiohttp.ClientSession() as session:
        for number in range(inputs):
            body = b"x" * nonsense.LARGE if number in (10, 20) else nonsense.document(rng)
            kind = rng.choice(["application/json", "application/x-ndjson", "text/plain", "a/b; c=x;;"])
            headers = {"content-type": kind}
            async with session.post(f"{running.http}/v1/exchanges", data=body, headers=headers) as answer:
                await answer.read()
                answers[answer.status] = answers.get(answer.status, 0) + 1
    return answers


async def attack(running: Running, seed: int, inputs: int) -> dict[str, Any]:
    """Send invalid inputs over gRPC and HTTP, then check that valid exchanges are still stored."""
    rng = random.Random(seed)
    most = running.rss_mb
    sent, answers = 0, dict[int, int]()
    began = time.monotonic()
    while sent < inputs:
        step = min(2_500, inputs - sent)
        sent += await over_grpc(running, rng, step - step // _HTTP_PART)
        for status, count in (await over_http(running, rng, step // _HTTP_PART)).items():
            answers[status] = answers.get(status, 0) + count
        sent += step // _HTTP_PART
        most = max(most, running.rss_mb)
        print(f"{sent:7,} inputs, {time.monotonic() - began:4.0f} s, {running.rss_mb:4.0f} MB", flush=True)
    before = running.route()["pairs"]
    await feed(running.grpc, templates("small"), range(500_000, 500_100))
    end = time.monotonic() + 30
    while running.route()["pairs"] < before + 100:
        if time.monotonic() > end:
            raise TimeoutError("valid exchanges were not stored within 30 s")
        await asyncio.sleep(0.1)
    return {
        "inputs": sent,
        "http_answers": answers,
        "most_mb": round(most),
        "alive": running.process.poll() is None,
    }


def main() -> None:
    """Print the progress; the last line is JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, collector(Path(folder)) as running:
        found = asyncio.run(attack(running, asked.seed, asked.inputs))
        found["rejected"] = running.route()["dropped"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()

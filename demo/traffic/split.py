"""Measures the traffic split: one small request per user, as fast as the connections allow."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from demo.traffic.exchange import CHAT_PATH, Exchange, Failure, Outgoing, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SplitSample", "split_sample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSample:
    """The variants that ``total`` users received; ``total`` is the sum of ``by_variant`` and ``failed``.

    ``by_variant`` and ``by_user`` contain good answers only; the variant is None if the response named none.
    ``seconds`` is the duration of the measurement.
    """

    total: int
    failed: int
    seconds: float
    by_variant: Mapping[str | None, int]
    by_failure: Mapping[Failure, int]
    by_user: Mapping[str, str | None]

    def share(self, variant: str) -> float:
        """Return the share of good answers that a variant gave, in [0, 1]; 0 without good answers."""
        answered = self.total - self.failed
        return self.by_variant.get(variant, 0) / answered if answered else 0.0

    def document(self) -> dict[str, Any]:
        """Return the sample as JSON, without users; answers without a variant count under ``(none)``."""
        return {
            "total": self.total,
            "failed": self.failed,
            "seconds": self.seconds,
            "by_variant": {variant or "(none)": count for variant, count in self.by_variant.items()},
            "by_failure": dict(self.by_failure),
        }


async def split_sample(  # noqa: PLR0913 - the last three are keyword arguments with defaults
    url: str,
    n: int,
    concurrency: int = 64,
    user_prefix: str = "split",
    *,
    model: str = "chat-large",
    seconds: float = 120.0,
    headers: Mapping[str, str] | None = None,
) -> SplitSample:
    """Send one request for each of ``n`` users over ``concurrency`` keep-alive connections.

    Users are named ``{user_prefix}-00000`` onwards. Users without an answer after ``seconds`` count as failed
    (``unanswered``).
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    requests = _requests(n, user_prefix, model, headers or {})
    done: list[Exchange] = []
    address = f"{url.rstrip('/')}{CHAT_PATH}"
    connector = aiohttp.TCPConnector(limit=concurrency)

    async def worker(session: aiohttp.ClientSession) -> None:
        for outgoing in requests:
            exchange = await send(session, address, outgoing)
            done.append(exchange)

    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, n)):
                    group.create_task(worker(session))
        except TimeoutError:
            pass
    return _counted(n, done, seconds=loop.time() - began)


def _requests(n: int, user_prefix: str, model: str, headers: Mapping[str, str]) -> Iterator[Outgoing]:
    """Yield one small request per user; only the user header differs."""
    messages = [{"role": "user", "content": "Say hello."}]
    document = {"model": model, "messages": messages, "max_tokens": 1, "temperature": 0}
    body = json.dumps(document).encode()
    for sequence in range(n):
        user = f"{user_prefix}-{sequence:05}"
        sent = {**headers, "content-type": "application/json", "x-user-id": user}
        yield Outgoing(sequence=sequence, user=user, prompt="hello", stream=False, body=body, headers=sent)


def _counted(n: int, done: list[Exchange], *, seconds: float) -> SplitSample:
    good = {exchange.user: exchange.variant for exchange in done if exchange.failure is None}
    failures = Counter(exchange.failure for exchange in done if exchange.failure is not None)
    if len(done) < n:
        failures[Failure.UNANSWERED] += n - len(done)
    return SplitSample(
        total=n,
        failed=n - len(good),
        seconds=seconds,
        by_variant=Counter(good.values()),
        by_failure=failures,
        by_user=good,
    )

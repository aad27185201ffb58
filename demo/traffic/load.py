"""Steady traffic: simulated users send requests at a fixed rate.

The rate is open-loop: a slow server does not slow the users down. When ``max_in_flight`` requests are in
flight, the next one is not sent; it is counted as held back and never queued.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from demo.prompts import Prompt, load
from demo.traffic.exchange import CHAT_PATH, Exchange, Failure, Outgoing, send

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Traffic", "TrafficConfig", "TrafficSnapshot"]

_RECENT: Final = 1000
_SECOND_TURN_SHARE: Final = 0.3
_FIRST_ANSWER: Final = "That depends on the details, but in general the first way is the better one."


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficConfig:
    """Configuration of the traffic. Times in seconds, ``rate`` in requests per second.

    With ``duration`` None, the traffic runs until ``stop``. ``temperature`` and ``max_tokens`` are sent
    unless they are None. ``max_records`` is how many of the last exchanges are kept. The same ``seed`` gives
    the same users and prompts.
    """

    url: str
    users: int = 200
    rate: float = 50.0
    duration: float | None = 20.0
    stream_share: float = 0.5
    model: str = "chat-large"
    path: str = CHAT_PATH
    user_prefix: str = "user"
    headers: tuple[tuple[str, str], ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    max_in_flight: int = 256
    request_timeout: float = 30.0
    max_records: int = 100_000
    seed: int = 1

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            ValueError: A field is out of range; the message names it and the allowed range.
        """
        if self.users < 1 or self.max_in_flight < 1 or self.max_records < 1:
            raise ValueError("users, max_in_flight or max_records is below 1; allowed: at least 1")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate {self.rate}; allowed: above 0 requests per second")
        if not 0 <= self.stream_share <= 1:
            raise ValueError(f"stream share {self.stream_share}; allowed: 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSnapshot:
    """Counts since the start, and percentiles in milliseconds over the last good exchanges.

    A percentile is None without good exchanges. ``by_variant`` counts responses by their variant header,
    under None if they have none.
    """

    elapsed: float
    sent: int
    in_flight: int
    ok: int
    failed: int
    held_back: int
    by_variant: Mapping[str | None, int]
    by_failure: Mapping[Failure, int]
    by_status: Mapping[int, int]
    first_byte_p50_ms: float | None
    first_byte_p99_ms: float | None
    total_p50_ms: float | None
    total_p99_ms: float | None

    def document(self) -> dict[str, Any]:
        """Return the snapshot as JSON; responses without a variant are counted under ``(none)``."""
        variants = {variant or "(none)": count for variant, count in self.by_variant.items()}
        statuses = {str(status): count for status, count in self.by_status.items()}
        return asdict(self) | {"by_variant": variants, "by_status": statuses}


class Traffic:
    """One run of traffic; ``snapshot`` and ``records`` can be read while it runs."""

    def __init__(self, config: TrafficConfig, prompts: Sequence[Prompt] | None = None) -> None:
        self.config = config
        self.records: deque[Exchange] = deque(maxlen=config.max_records)
        self._prompts = tuple(prompts) if prompts is not None else load()
        self._rng = random.Random(config.seed)
        self._stopping = asyncio.Event()
        self._began: float | None = None
        self._ended: float | None = None
        self._sent = self._in_flight = self._held_back = 0
        self._by_variant: Counter[str | None] = Counter()
        self._by_failure: Counter[Failure] = Counter()
        self._by_status: Counter[int] = Counter()
        self._ok = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)

    async def run(self) -> TrafficSnapshot:
        """Send until the duration is over or ``stop``; return when all requests in flight have ended."""
        config = self.config
        clock = asyncio.get_running_loop().time
        self._began = clock()
        timeout = aiohttp.ClientTimeout(total=config.request_timeout)
        connector = aiohttp.TCPConnector(limit=0)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                asyncio.TaskGroup() as group,
            ):
                await self._send_all(session, group)
        finally:
            self._ended = clock()
        return self.snapshot()

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Stop sending; requests in flight still complete."""
        self._stopping.set()

    def snapshot(self) -> TrafficSnapshot:
        """Return the current counts and percentiles."""
        first = sorted(times[0] for times in self._recent)
        total = sorted(times[1] for times in self._recent)
        return TrafficSnapshot(
            elapsed=self._elapsed(),
            sent=self._sent,
            in_flight=self._in_flight,
            ok=self._ok,
            failed=self._by_failure.total(),
            held_back=self._held_back,
            by_variant=dict(self._by_variant),
            by_failure=dict(self._by_failure),
            by_status=dict(self._by_status),
            first_byte_p50_ms=_percentile(first, 0.5),
            first_byte_p99_ms=_percentile(first, 0.99),
            total_p50_ms=_percentile(total, 0.5),
            total_p99_ms=_percentile(total, 0.99),
        )

    async def _send_all(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        config = self.config
        began = asyncio.get_running_loop().time()
        for sequence in itertools.count():
            after = sequence / config.rate
            if config.duration is not None and after >= config.duration:
                return
            if await self._stopped_before(began + after):
                return
            outgoing = self._outgoing(sequence)
            if self._in_flight >= config.max_in_flight:
                self._held_back += 1
                continue
            self._sent += 1
            self._in_flight += 1
            group.create_task(self._exchange(session, outgoing))

    async def _stopped_before(self, due: float) -> bool:
        try:
            async with asyncio.timeout_at(due):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    async def _exchange(self, session: aiohttp.ClientSession, outgoing: Outgoing) -> None:
        try:
            exchange = await send(session, f"{self.config.url.rstrip('/')}{self.config.path}", outgoing)
        finally:
            self._in_flight -= 1
        self.records.append(exchange)
        if exchange.status is not None:
            self._by_status[exchange.status] += 1
            self._by_variant[exchange.variant] += 1
        if exchange.failure is not None:
            self._by_failure[exchange.failure] += 1
            return
        self._ok += 1
        if exchange.first_byte_ms is not None:
            self._recent.append((exchange.first_byte_ms, exchange.total_ms))

    def _outgoing(self, sequence: int) -> Outgoing:
        """Draw the next request.

        Requests that are held back are drawn too, so that load does not change which user sends which prompt.
        """
        config, rng = self.config, self._rng
        user = f"{config.user_prefix}-{rng.randrange(config.users):05}"
        prompt = rng.choice(self._prompts)
        stream = rng.random() < config.stream_share
        second = rng.random() < _SECOND_TURN_SHARE
        messages = [{"role": "user", "content": prompt.text}]
        if second and prompt.second_turn is not None:
            messages += [
                {"role": "assistant", "content": _FIRST_ANSWER},
                {"role": "user", "content": prompt.second_turn},
            ]
        document: dict[str, Any] = {"model": config.model, "messages": messages}
        if stream:
            document |= {"stream": True, "stream_options": {"include_usage": True}}
        if config.temperature is not None:
            document["temperature"] = config.temperature
        if config.max_tokens is not None:
            document["max_tokens"] = config.max_tokens
        return Outgoing(
            sequence=sequence,
            user=user,
            prompt=prompt.id,
            stream=stream,
            body=json.dumps(document).encode(),
            headers={**dict(config.headers), "content-type": "application/json", "x-user-id": user},
        )

    def _elapsed(self) -> float:
        if self._began is None:
            return 0.0
        if self._ended is not None:
            return self._ended - self._began
        return asyncio.get_running_loop().time() - self._began


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the percentile by nearest rank."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

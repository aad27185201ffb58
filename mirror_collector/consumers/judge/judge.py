"""The judge: queries an OpenAI-compatible endpoint about a sample of the stored pairs.

The pipeline does not wait for it. For each pair, the judge model compares the two answers in both orders.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from mirror_collector.consumers.judge.prompt import (
    DEFAULT_PROMPT,
    Choice,
    Judgement,
    JudgePrompt,
    combine,
    judge_messages,
    parse_choice,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirror_collector.consumers.judge.budget import Budget
    from mirror_collector.consumers.secret import Secret

__all__ = ["Judge", "JudgeConfig"]

_RETRYABLE_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})
_MAX_ATTEMPTS: Final = 3
_QUEUE_SIZE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """Endpoint and prompt of a judge; `share` is the sampled share of pairs in [0, 1]."""

    url: str
    model: str
    key: Secret | None = None
    share: float = 0.05
    prompt: JudgePrompt = field(default=DEFAULT_PROMPT)
    timeout: float = 60.0
    initial_backoff: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    pair_id: int
    request: str
    primary: str
    shadow: str


class Judge:
    """A bounded queue of pairs and the task that judges them; a pair that does not fit is dropped."""

    def __init__(
        self,
        config: JudgeConfig,
        budget: Budget,
        record: Callable[[int, str, str, Judgement], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Create a judge that passes each judgement to `record`.

        Args:
            config: endpoint and prompt.
            budget: limits on the calls.
            record: receives pair id, version of the prompt, model and judgement.
            clock: seconds since the epoch.
            sleep: replaces `asyncio.sleep` in tests.
        """
        self._config = config
        self._budget = budget
        self._record = record
        self._clock = clock
        self._sleep = sleep
        self._tasks: deque[_Task] = deque()
        self._wake = asyncio.Event()
        self.counts: Counter[str] = Counter()
        """Number of pairs by judgement, or by the reason why there is none."""

    def is_sampled(self, request_id: str) -> bool:
        """Whether a pair is in the sample; depends only on its request id."""
        digest = blake2b(request_id.encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest) < self._config.share * 2**64

    def submit(self, pair_id: int, request: str, primary: str, shadow: str) -> None:
        """Queue a pair without waiting; drop it if the queue is full."""
        if len(self._tasks) >= _QUEUE_SIZE:
            self.counts["queue_full"] += 1
            return
        self._tasks.append(_Task(pair_id=pair_id, request=request, primary=primary, shadow=shadow))
        self._wake.set()

    async def run(self) -> None:
        """Judge queued pairs until canceled."""
        timeout = aiohttp.ClientTimeout(total=self._config.timeout)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                while not self._tasks:
                    self._wake.clear()
                    await self._wake.wait()
                task = self._tasks.popleft()
                exhausted = self._budget.reserve(self._clock())
                if exhausted:
                    self.counts[exhausted] += 1
                    continue
                await self._judge(session, task)

    async def _judge(self, session: aiohttp.ClientSession, task: _Task) -> None:
        forward = await self._choose(session, task.request, task.primary, task.shadow)
        backward = await self._choose(session, task.request, task.shadow, task.primary)
        if forward is None or backward is None:
            self.counts["failed"] += 1
            return
        judgement = combine(forward, backward)
        if judgement is None:
            self.counts["unreadable"] += 1
            return
        self.counts[judgement.value] += 1
        await self._record(task.pair_id, self._config.prompt.version, self._config.model, judgement)

    async def _choose(
        self, session: aiohttp.ClientSession, request: str, first: str, second: str
    ) -> Choice | None:
        """Return the choice of the judge for one order of the answers.

        None if the endpoint rejected the request, or every attempt failed.
        """
        document = {
            "model": self._config.model,
            "temperature": 0,
            "max_tokens": 200,
            "messages": judge_messages(self._config.prompt, request, first, second),
        }
        backoff = self._config.initial_backoff
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            result = await self._post(session, document)
            if isinstance(result, Choice):
                return result
            if not result:
                return None
            if attempt < _MAX_ATTEMPTS:
                await self._sleep(backoff)
                backoff *= 4
        return None

    async def _post(self, session: aiohttp.ClientSession, document: dict[str, Any]) -> Choice | bool:
        """Send one request; return the choice, or whether the request may be retried."""
        headers = {} if self._config.key is None else {"authorization": f"Bearer {self._config.key.value}"}
        url = f"{self._config.url.rstrip('/')}/chat/completions"
        try:
            async with session.post(url, json=document, headers=headers) as response:
                if response.status != 200:
                    return response.status in _RETRYABLE_STATUS
                return self._read(await response.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return True
        except ValueError:
            return Choice.UNREADABLE

    def _read(self, value: Any) -> Choice:
        match value:
            case {"usage": {"prompt_tokens": int(tokens_in), "completion_tokens": int(tokens_out)}}:
                self._budget.record_usage(tokens_in, tokens_out)
            case _:
                pass
        match value:
            case {"choices": [{"message": {"content": str(text)}}, *_]}:
                return parse_choice(text)
            case _:
                return Choice.UNREADABLE

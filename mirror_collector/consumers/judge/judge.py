"""Asking the judge: any OpenAI-compatible endpoint, a sample of pairs, both orders; nothing waits for it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from mirror_collector.consumers.judge.prompt import (
    DEFAULT,
    Choice,
    Judgement,
    JudgePrompt,
    combined,
    messages,
    parse_choice,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirror_collector.consumers.judge.budget import Budget
    from mirror_collector.consumers.secret import Secret

__all__ = ["Judge", "JudgeConfig"]

_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_TRIES: Final = 3
_QUEUE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """Who judges, and which share of pairs (0 to 1)."""

    url: str
    model: str
    key: Secret | None = None
    share: float = 0.05
    prompt: JudgePrompt = field(default=DEFAULT)
    timeout: float = 60.0
    first_wait: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    pair_id: int
    request: str
    primary: str
    shadow: str


class Judge:
    """A bounded queue of pairs and one task that asks about them; the newest is dropped when it is full."""

    def __init__(
        self,
        config: JudgeConfig,
        budget: Budget,
        on_result: Callable[[int, str, str, Judgement], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`on_result` is told pair, version of the prompt, model and judgement."""
        self._config = config
        self._budget = budget
        self._on_result = on_result
        self._clock = clock
        self._sleep = sleep
        self._cases: deque[_Case] = deque()
        self._wake = asyncio.Event()
        self.counts: Counter[str] = Counter()

    def wanted(self, request_id: str) -> bool:
        """Whether a pair is in the sample: always the same pairs, whoever asks."""
        digest = blake2b(request_id.encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest) < self._config.share * 2**64

    def offer(self, pair_id: int, request: str, primary: str, shadow: str) -> None:
        """Take a pair; never waits."""
        if len(self._cases) >= _QUEUE:
            self.counts["queue_full"] += 1
            return
        self._cases.append(_Case(pair_id=pair_id, request=request, primary=primary, shadow=shadow))
        self._wake.set()

    async def run(self) -> None:
        """Judge until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self._config.timeout)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                while not self._cases:
                    self._wake.clear()
                    await self._wake.wait()
                case = self._cases.popleft()
                refused = self._budget.take(self._clock())
                if refused:
                    self.counts[refused] += 1
                    continue
                await self._judge(session, case)

    async def _judge(self, session: aiohttp.ClientSession, case: _Case) -> None:
        forward = await self._ask(session, case.request, case.primary, case.shadow)
        backward = await self._ask(session, case.request, case.shadow, case.primary)
        if forward is None or backward is None:
            self.counts["failed"] += 1
            return
        found = combined(forward, backward)
        if found is None:
            self.counts["unreadable"] += 1
            return
        self.counts[found.value] += 1
        await self._on_result(case.pair_id, self._config.prompt.version, self._config.model, found)

    async def _ask(
        self, session: aiohttp.ClientSession, request: str, first: str, second: str
    ) -> Choice | None:
        """Return what is said in one order; None where no answer came."""
        document = {
            "model": self._config.model,
            "temperature": 0,
            "max_tokens": 200,
            "messages": messages(self._config.prompt, request, first, second),
        }
        wait = self._config.first_wait
        for attempt in range(1, _TRIES + 1):
            answer = await self._post(session, document)
            if isinstance(answer, Choice):
                return answer
            if not answer:
                return None
            if attempt < _TRIES:
                await self._sleep(wait)
                wait *= 4
        return None

    async def _post(self, session: aiohttp.ClientSession, document: dict[str, Any]) -> Choice | bool:
        """Return the choice, or whether it is worth trying again."""
        headers = {} if self._config.key is None else {"authorization": f"Bearer {self._config.key.value}"}
        url = f"{self._config.url.rstrip('/')}/chat/completions"
        try:
            async with session.post(url, json=document, headers=headers) as answer:
                if answer.status != 200:
                    return answer.status in _AGAIN
                return self._read(await answer.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return True
        except ValueError:
            return Choice.UNREADABLE

    def _read(self, value: Any) -> Choice:
        match value:
            case {"usage": {"prompt_tokens": int(asked), "completion_tokens": int(said)}}:
                self._budget.spend(asked, said)
            case _:
                pass
        match value:
            case {"choices": [{"message": {"content": str(text)}}, *_]}:
                return parse_choice(text)
            case _:
                return Choice.UNREADABLE

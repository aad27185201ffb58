"""Generates the answer to a validated request and sends it at the configured pace."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from demo.simulated.answers import Answer, answer, gibberish, varied
from demo.simulated.faults import FaultMode
from demo.simulated.replies import HEADERS, DroppedResponse, drop, json_reply
from demo.simulated.wire import DONE_EVENT, Envelope, Finish, GenerationRequest, Usage

if TYPE_CHECKING:
    from demo.simulated.config import SimulatedConfig
    from demo.simulated.metrics import ServerMetrics

__all__ = ["Engine"]

_JITTER: Final = (0.85, 1.15)
_SLOWNESS: Final = 10.0
_SLOWEST_FIRST_TOKEN_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Generation:
    """One answer before it is sent; times in seconds."""

    envelope: Envelope
    tokens: tuple[str, ...]
    finish: Finish
    usage: Usage
    first: float
    inter: float
    cut: bool

    @property
    def total(self) -> float:
        """Seconds until the last token."""
        return self.first + self.inter * (len(self.tokens) - 1)


class Engine:
    """Generates answers and sends them; only answers that were sent completely count as finished."""

    def __init__(self, config: SimulatedConfig, metrics: ServerMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self._rng = random.Random(config.seed + 1)

    async def run(
        self, request: web.Request, parsed: GenerationRequest, envelope: Envelope, mode: FaultMode
    ) -> web.StreamResponse:
        """Respond to one request, streamed or not; stop early when the client disconnects."""
        generation = self._generation(parsed, envelope, mode)
        self._metrics.running.inc()
        try:
            if parsed.stream:
                response = await _stream(request, generation, include_usage=parsed.include_usage)
            else:
                response = await _whole(request, generation)
        finally:
            self._metrics.running.dec()
        if not isinstance(response, DroppedResponse):
            self._metrics.finished(
                generation.finish.value,
                prompt_tokens=parsed.prompt_tokens,
                tokens=len(generation.tokens),
                first=generation.first,
                total=generation.total,
            )
        return response

    def _generation(self, parsed: GenerationRequest, envelope: Envelope, mode: FaultMode) -> _Generation:
        made, finish = self._composed(parsed, mode)
        first = self._config.first_token * self._rng.uniform(*_JITTER)
        inter = self._config.inter_token * self._rng.uniform(*_JITTER)
        if mode is FaultMode.SLOW:
            first, inter = max(first * _SLOWNESS, _SLOWEST_FIRST_TOKEN_SECONDS), inter * _SLOWNESS
        return _Generation(
            envelope=envelope,
            tokens=made.tokens,
            finish=finish,
            usage=Usage(prompt_tokens=parsed.prompt_tokens, completion_tokens=len(made.tokens)),
            first=first,
            inter=inter,
            cut=mode is FaultMode.CUT_STREAM,
        )

    def _composed(self, parsed: GenerationRequest, mode: FaultMode) -> tuple[Answer, Finish]:
        """Return the answer to a request, truncated to its token limit, and its finish reason."""
        rng = self._rng if parsed.seed is None else random.Random(parsed.seed)
        if mode is FaultMode.GIBBERISH:
            made = gibberish(rng)
        else:
            made = answer(parsed.question, self._config.flavour, rng)
            if self._config.resample or self._config.alter:
                made = varied(made, rng, resample=self._config.resample, alter=self._config.alter)
        if len(made.tokens) <= parsed.max_tokens:
            return made, Finish.STOP
        return Answer(tokens=made.tokens[: parsed.max_tokens]), Finish.LENGTH


async def _whole(request: web.Request, generation: _Generation) -> web.StreamResponse:
    if generation.total > 0:
        await asyncio.sleep(generation.total)
    text = "".join(generation.tokens)
    body = generation.envelope.whole(text, generation.finish, generation.usage)
    if not generation.cut:
        return json_reply(body)
    response = web.StreamResponse(headers={**HEADERS, "content-type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return drop(request)


async def _stream(
    request: web.Request, generation: _Generation, *, include_usage: bool
) -> web.StreamResponse:
    """Send the headers at once and each event when it is due; events due at the same time share one write."""
    response = web.StreamResponse(headers={**HEADERS, "content-type": "text/event-stream; charset=utf-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    clock = asyncio.get_running_loop().time
    due = clock() + generation.first
    events = generation.envelope.token_events(generation.tokens, generation.finish)
    unsent = bytearray()
    for place, event in enumerate(events[: len(events) // 2] if generation.cut else events):
        wait = due + generation.inter * place - clock()
        if wait > 0:
            if unsent:
                await response.write(bytes(unsent))
                unsent.clear()
            await asyncio.sleep(wait)
        if place == 0:
            unsent += generation.envelope.first_event()
        unsent += event
    if generation.cut:
        await response.write(bytes(unsent))
        return drop(request)
    if include_usage:
        unsent += generation.envelope.usage_event(generation.usage)
    await response.write(bytes(unsent + DONE_EVENT))
    await response.write_eof()
    return response

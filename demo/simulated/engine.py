"""Generates the response to a validated request, as a value: what is sent and when."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from demo.simulated import audio, chat, messages, ranking, requests, responses, vectors
from demo.simulated.drafts import Draft, Finish, compose
from demo.simulated.effects import JSON, Pace, changed_body, changed_events, pinged, streamed
from demo.simulated.events import UsageStyle
from demo.simulated.faults import NO_FAULT, Fault
from demo.simulated.modes import FaultMode, Traits, applies
from demo.simulated.script import Part, Script
from demo.simulated.wire import Api

if TYPE_CHECKING:
    from demo.simulated.config import SimulatedConfig

__all__ = ["Answered", "Engine", "Parsed", "parse"]

Parsed = (
    requests.GenerationRequest
    | vectors.EmbeddingRequest
    | ranking.RankingRequest
    | audio.TranscriptionRequest
    | audio.SpeechRequest
)
"""A validated request of any API."""

_JITTER: Final = (0.85, 1.15)
_DIALECTS: Final[dict[Api, Any]] = {
    Api.CHAT: chat,
    Api.COMPLETIONS: chat,
    Api.RESPONSES: responses,
    Api.MESSAGES: messages,
}
_JSON_MODES: Final = frozenset({FaultMode.ERROR_200, FaultMode.ERROR_200_UNENDED, FaultMode.UNKNOWN_JSON})
_FINISHES: Final = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.TOOL_CALLS: "stop"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A response before it is sent.

    ``fault`` is the fault that changed it. ``reason``, ``prompt_tokens``, ``tokens`` and the times ``first``
    and ``total`` in seconds are what the server's metrics count; ``tokens`` is 0 where no text is generated.
    """

    script: Script
    fault: Fault
    reason: str = "stop"
    prompt_tokens: int = 0
    tokens: int = 0
    first: float = 0.0
    total: float = 0.0


def parse(api: Api, content_type: str, body: bytes, config: SimulatedConfig) -> Parsed:
    """Return the validated request of a body.

    Raises:
        WireError: 400 for an invalid or too long body, 404 for the name of another model.
    """
    model, longest = config.model, config.max_model_len
    match api:
        case Api.EMBEDDINGS:
            return vectors.parse(content_type, body, model=model, max_model_len=longest)
        case Api.RERANK | Api.SCORE:
            return ranking.parse(api, content_type, body, model=model, max_model_len=longest)
        case Api.TRANSCRIPTION:
            return audio.parse_transcription(content_type, body, model=model)
        case Api.SPEECH:
            return audio.parse_speech(content_type, body, model=model, max_model_len=longest)
        case _:
            return requests.parse(api, content_type, body, model=model, max_model_len=longest)


class Engine:
    """Generates responses; sampling and jitter are drawn from the seed of the configuration."""

    def __init__(self, config: SimulatedConfig) -> None:
        self._config = config
        self._rng = random.Random(config.seed + 1)

    def answer(self, api: Api, parsed: Parsed, fault: Fault, *, request_id: str, created: int) -> Answered:
        """Return the response to one request; ``created`` is in Unix seconds."""
        fault = fault if applies(fault.mode, _traits(api, parsed)) else NO_FAULT
        config, rng = self._config, self._rng
        pace = Pace(
            first=config.first_token * rng.uniform(*_JITTER), inter=config.inter_token * rng.uniform(*_JITTER)
        ).slowed(fault)
        if isinstance(parsed, requests.GenerationRequest):
            draft = Draft(
                request_id=request_id,
                created=created,
                model=config.model,
                prompt_tokens=parsed.prompt_tokens,
                choices=compose(parsed, config, rng, fault.mode),
            )
            return _generated(draft, parsed, fault, pace)
        return self._computed(api, parsed, fault, pace, request_id, created)

    def _computed(
        self, api: Api, parsed: Parsed, fault: Fault, pace: Pace, request_id: str, created: int
    ) -> Answered:
        """Return the response of an API that generates no text token by token."""
        config, rng, mode = self._config, self._rng, fault.mode
        content_type, tokens = JSON, 0
        shared: dict[str, Any] = {
            "request_id": request_id,
            "created": created,
            "model": config.model,
            "flavour": config.flavour,
            "rng": rng,
            "mode": mode,
        }
        document: Any
        match parsed:
            case vectors.EmbeddingRequest():
                document, tokens = vectors.body(parsed, **shared), parsed.prompt_tokens
            case ranking.RankingRequest():
                document, tokens = ranking.body(parsed, **shared), parsed.prompt_tokens
            case audio.TranscriptionRequest():
                document = audio.transcription(parsed, config.flavour, rng, mode)
                content_type = JSON if isinstance(document, dict) else "text/plain; charset=utf-8"
            case audio.SpeechRequest():
                document, content_type = (
                    audio.speech(parsed, config.flavour),
                    audio.SPEECH_TYPES[parsed.format],
                )
            case requests.GenerationRequest():
                raise TypeError("a text request has a draft")
        if fault.mode in _JSON_MODES:
            content_type = JSON
        part = Part(data=changed_body(document, fault, api), due=pace.first)
        return Answered(
            script=Script(content_type=content_type, parts=(part,)),
            fault=fault,
            prompt_tokens=tokens,
            first=pace.first,
            total=pace.first,
        )


def _generated(draft: Draft, parsed: requests.GenerationRequest, fault: Fault, pace: Pace) -> Answered:
    """Return the response of a text API, streamed or not."""
    dialect, style = _DIALECTS[parsed.api], UsageStyle.of(fault.mode)
    total = pace.total(draft.longest)
    if parsed.stream:
        made = changed_events(dialect.events(draft, parsed, style), fault, parsed.api)
        script = pinged(streamed(made, pace), fault)
    else:
        body = changed_body(dialect.body(draft, parsed, style), fault, parsed.api)
        script = Script(content_type=JSON, parts=(Part(data=body, due=total),))
    return Answered(
        script=script,
        fault=fault,
        reason=_FINISHES[draft.choices[0].finish],
        prompt_tokens=draft.prompt_tokens,
        tokens=draft.completion_tokens,
        first=pace.first,
        total=total,
    )


def _traits(api: Api, parsed: Parsed) -> Traits:
    """Return the properties of a request that decide which faults can change its response."""
    match parsed:
        case requests.GenerationRequest():
            return Traits(
                api=api,
                stream=parsed.stream,
                calls=bool(parsed.tools),
                usage=parsed.include_usage or not parsed.stream,
            )
        case vectors.EmbeddingRequest() | ranking.RankingRequest():
            return Traits(api=api, usage=True)
        case audio.TranscriptionRequest():
            text = parsed.format == "text"
            return Traits(api=api, usage=not text, plain_text=text)
        case audio.SpeechRequest():
            return Traits(api=api)

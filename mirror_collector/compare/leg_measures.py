"""The measurements of one leg: times, tokens, traits, and whether its answer was read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, assert_never

from mirror_collector.compare.readability import unread_reason
from mirror_collector.compare.traits import Traits, detect_traits

if TYPE_CHECKING:
    from mirror_collector.compare.tools import OfferedTools
    from mirror_collector.exchange import Leg, Reply, UnreadReason

__all__ = ["Expected", "LegMeasures", "TokenSource", "measure_leg", "token_source"]


class TokenSource(Enum):
    """Source of the token counts of a comparison."""

    USAGE = "usage"
    """The usage both answers reported."""

    CHUNKS = "chunks"
    """An estimate from two streams: tokens with log probabilities, else events that carried content."""

    NONE = "none"
    """The tokens of the two answers could not be counted in the same way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegMeasures:
    """The measurements of one leg."""

    traits: Traits
    kind: str
    status: int | None
    failure: str | None
    unread: UnreadReason | None = None
    """Why the answer could not be read; None if it was read or the leg failed."""

    succeeded: bool
    first_token_ms: float | None
    inter_token_ms: float | None
    """Mean time between the content events of a stream."""

    total_ms: float | None
    tokens: int | None
    """Completion tokens, counted by the same source for both legs of the pair."""

    tokens_used: int | None
    """Completion tokens by the best source available for this leg alone."""

    characters: int
    finish_reason: str | None
    mean_logprob: float | None


def token_source(first: Reply, second: Reply) -> TokenSource:
    """Return how the tokens of two answers can be counted in the same way."""
    if first.completion_tokens is not None and second.completion_tokens is not None:
        return TokenSource.USAGE
    if first.content_chunks is not None and second.content_chunks is not None:
        return TokenSource.CHUNKS
    return TokenSource.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a request expects of its answer."""

    wants_json: bool
    tools: OfferedTools


def measure_leg(leg: Leg, reply: Reply, source: TokenSource, expected: Expected) -> LegMeasures:
    """Return the measurements of a leg with its parsed answer."""
    first = _elapsed_ms(leg.started_us, leg.first_chunk_us)
    total = _elapsed_ms(leg.started_us, leg.last_chunk_us)
    events = reply.content_chunks or 0
    return LegMeasures(
        traits=detect_traits(leg, reply, wants_json=expected.wants_json, offered=expected.tools),
        kind=reply.kind.value,
        status=leg.status,
        failure=None if leg.failure is None else leg.failure.value,
        unread=unread_reason(leg, reply),
        succeeded=leg.succeeded and not reply.is_broken,
        first_token_ms=first,
        inter_token_ms=(total - first) / (events - 1)
        if first is not None and total is not None and events > 1
        else None,
        total_ms=total,
        tokens=_tokens(reply, source),
        tokens_used=reply.content_chunks if reply.completion_tokens is None else reply.completion_tokens,
        characters=len(reply.text),
        finish_reason=reply.finish_reason,
        mean_logprob=reply.mean_logprob,
    )


def _tokens(reply: Reply, source: TokenSource) -> int | None:
    match source:
        case TokenSource.USAGE:
            return reply.completion_tokens
        case TokenSource.CHUNKS:
            return reply.content_chunks
        case TokenSource.NONE:
            return None
        case _:
            assert_never(source)


def _elapsed_ms(start_us: int, end_us: int | None) -> float | None:
    """Milliseconds between two times; None without an end, or if a clock change put it before the start."""
    return (end_us - start_us) / 1000 if end_us is not None and end_us >= start_us else None

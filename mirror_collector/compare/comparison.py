"""The comparison of one pair: how its legs differ, and how much the primary's variant differs from itself.

Texts are compared only if the primary's answer is complete, the shadow at least began an answer, and neither
body was truncated by the capture limit. A shadow that stopped early or reported an error within its stream is
compared, because an incomplete answer is a difference. Nothing is compared if the client disconnected: the
client cut the answer, not the model. Nothing is compared either if the limits on shadow traffic prevented the
answer; such pairs are counted as limited.

If the pair has a noise leg, which is a second answer of the primary's variant, that answer is compared with
the primary's answer by the same rules. If both variants are the same model, the noise leg and the shadow leg
are interchangeable.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, assert_never

from mirror_collector.compare.agreement import AGREEMENT_MEASURES, Agreement, agreement_of, with_meaning
from mirror_collector.compare.answers import ANSWER_MEASURES
from mirror_collector.compare.traits import Traits, detect_traits, requests_json
from mirror_collector.exchange import Reply, api_of, read_reply

if TYPE_CHECKING:
    from mirror_collector.compare.embedding import EmbeddingSimilarity
    from mirror_collector.exchange import Leg, Pair

__all__ = [
    "AGREEMENT_MEASURES",
    "VERSION",
    "Agreement",
    "ComparedPair",
    "Comparison",
    "LegMeasures",
    "Replies",
    "TokenSource",
    "compare",
]

VERSION: Final = 2
"""Version of the comparison. It increases whenever a pair would be measured differently; results of different
versions are never added up."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of comparing one pair; None for whatever could not be compared."""

    version: int
    client_left: bool
    limited: bool
    """Whether the limits on shadow traffic prevented the shadow's answer."""

    primary: LegMeasures
    shadow: LegMeasures
    noise: LegMeasures | None
    status_same: bool
    """Whether both legs have the same status, and both or neither ended properly."""

    status_class_same: bool
    agreement: Agreement
    """Agreement of the shadow's answer with the primary's."""

    baseline: Agreement | None
    """The noise baseline: agreement of the noise leg's answer with the primary's; None if unusable."""

    length_ratio: float | None
    """Length of the shadow's text divided by the length of the primary's text, in characters."""

    token_source: TokenSource

    @property
    def similarity(self) -> float | None:
        """Score for sorting pairs, from 0.0 (worst) to 1.0; None if the pair does not measure quality."""
        if self.client_left or self.limited:
            return None
        if not self.status_same or self.agreement.tool_calls is False:
            return 0.0
        if self.agreement.exact:
            return 1.0
        if self.agreement.exact is None:
            return None
        agreement = self.agreement
        values = (agreement.rouge_l, *(getattr(agreement, name) for name in ANSWER_MEASURES))
        return next((float(value) for value in values if value is not None), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """The parsed answers of the legs of a pair."""

    primary: Reply
    shadow: Reply
    noise: Reply | None = None

    @classmethod
    def of(cls, pair: Pair) -> Replies:
        """Parse the answers of a pair; its API is that of the primary's path."""
        api = api_of(pair.primary.path)
        return cls(
            primary=read_reply(pair.primary.response, api),
            shadow=read_reply(pair.shadow.response, api),
            noise=None if pair.noise is None else read_reply(pair.noise.response, api),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPair:
    """A pair, the replies parsed from its legs, and the comparison of its legs."""

    pair: Pair
    replies: Replies
    comparison: Comparison
    pair_id: int = 0
    """Id of the pair in the store; 0 before it is stored."""


def compare(
    pair: Pair, replies: Replies | None = None, *, embedding: EmbeddingSimilarity | None = None
) -> Comparison:
    """Compare the legs of one pair; never raises, whatever the bodies contain.

    Args:
        pair: the legs.
        replies: the parsed answers, if the caller has parsed them already.
        embedding: computes the similarity of meaning; None skips that measure.
    """
    replies = replies or Replies.of(pair)
    primary, shadow, noise = pair.primary, pair.shadow, pair.noise
    source = _token_source(replies.primary, replies.shadow)
    wants_json = requests_json(primary.request)
    shadow_measures = _measures(shadow, replies.shadow, source, wants_json=wants_json)
    primary_measures = _measures(primary, replies.primary, source, wants_json=wants_json)
    noise_measures = None
    if noise is not None and replies.noise is not None:
        noise_measures = _measures(noise, replies.noise, source, wants_json=wants_json)
    usable = not pair.client_left and not shadow.limited
    languages = primary_measures.traits.language, shadow_measures.traits.language
    agreement = Agreement()
    if usable:
        agreement = agreement_of(pair, shadow, replies.primary, replies.shadow, languages)
    baseline = None
    if usable and noise is not None and replies.noise is not None and noise_measures is not None:
        languages = primary_measures.traits.language, noise_measures.traits.language
        if not noise.limited:
            baseline = agreement_of(pair, noise, replies.primary, replies.noise, languages)
    if embedding is not None:
        agreement = with_meaning(agreement, replies.primary, replies.shadow, embedding)
        if baseline is not None and replies.noise is not None:
            baseline = with_meaning(baseline, replies.primary, replies.noise, embedding)
    texts_compared = agreement.rouge_l is not None and replies.primary.text
    return Comparison(
        version=VERSION,
        client_left=pair.client_left,
        limited=shadow.limited,
        primary=primary_measures,
        shadow=shadow_measures,
        noise=noise_measures,
        status_same=primary.status == shadow.status and _completed(primary) == _completed(shadow),
        status_class_same=(
            _status_class(primary) == _status_class(shadow) and _completed(primary) == _completed(shadow)
        ),
        agreement=agreement,
        baseline=baseline,
        length_ratio=len(replies.shadow.text) / len(replies.primary.text) if texts_compared else None,
        token_source=source,
    )


def _token_source(first: Reply, second: Reply) -> TokenSource:
    if first.completion_tokens is not None and second.completion_tokens is not None:
        return TokenSource.USAGE
    if first.content_chunks is not None and second.content_chunks is not None:
        return TokenSource.CHUNKS
    return TokenSource.NONE


def _measures(leg: Leg, reply: Reply, source: TokenSource, *, wants_json: bool) -> LegMeasures:
    first = _elapsed_ms(leg.started_us, leg.first_chunk_us)
    total = _elapsed_ms(leg.started_us, leg.last_chunk_us)
    events = reply.content_chunks or 0
    return LegMeasures(
        traits=detect_traits(leg, reply, wants_json=wants_json),
        kind=reply.kind.value,
        status=leg.status,
        failure=None if leg.failure is None else leg.failure.value,
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


def _completed(leg: Leg) -> bool:
    return leg.failure is None and leg.complete


def _status_class(leg: Leg) -> int | None:
    return None if leg.status is None else leg.status // 100

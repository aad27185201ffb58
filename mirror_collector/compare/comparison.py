"""The comparison of one pair: how its legs differ, and how much the primary's variant differs from itself.

Texts are compared only if the primary's answer is complete, the shadow at least began an answer, and neither
body was truncated by the capture limit. A shadow that stopped early or reported an error within its stream is
compared, because an incomplete answer is a difference. Nothing is compared if the client disconnected: the
client cut the answer, not the model. Nothing is compared either if the limits on shadow traffic prevented the
answer; such pairs are counted as limited.

If the primary's answer was read, a copy's body that is no answer of that kind has nothing in common with it.
A body whose encoding is not supported, or that exceeds a limit of the collector, is no evidence. If the
primary's body could not be read, only the bytes are compared, for display.

If the pair has a noise leg, which is a second answer of the primary's variant, that answer is compared with
the primary's answer by the same rules. If both variants are the same model, the noise leg and the shadow leg
are interchangeable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, assert_never

from mirror_collector.compare.answers import (
    ANSWER_KINDS,
    ANSWER_MEASURES,
    measure_answers,
    nothing_in_common,
)
from mirror_collector.compare.similarity import edit_similarity, rouge_l
from mirror_collector.compare.tool_calls import same_calls
from mirror_collector.compare.traits import Traits, detect_traits, requests_json
from mirror_collector.exchange import Reply, UnreadReason, api_of, read_reply

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

AGREEMENT_MEASURES: Final = (
    "exact",
    "rouge_l",
    "edit",
    "meaning",
    "finish_reason",
    "tool_calls",
    "language",
    *ANSWER_MEASURES,
)
"""Names of the measures that compare two answers to one request; each is a field of `Agreement`."""


_UNKNOWN_CONTENT: Final = frozenset({UnreadReason.ENCODING, UnreadReason.TRUNCATED, UnreadReason.TOO_LARGE})
"""Reasons for which an unread body may contain a proper answer."""


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
class Agreement:
    """How far two answers to one request agree; None for each measure that could not be determined."""

    exact: bool | None = None
    """Whether text and tool calls are equal (for opaque bodies: whether the bytes are equal)."""

    rouge_l: float | None = None
    edit: float | None = None
    meaning: float | None = None
    """Similarity of word embeddings, if enabled."""

    finish_reason: bool | None = None
    tool_calls: bool | None = None
    """Whether the tool calls have equal names in equal order and equal JSON arguments; None without calls."""

    language: bool | None = None
    vector: float | None = None
    """Cosine similarity of embeddings."""

    ranking: float | None = None
    """Correlation of two orders of documents."""

    top_result: bool | None = None
    """Whether two orders of documents begin with the same one."""

    scores: float | None = None
    transcript: float | None = None
    """1 minus the word error rate of a transcript."""

    document: float | None = None
    """Closeness of the fields of two JSON documents."""


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
        agreement = _agreement(pair, shadow, replies.primary, replies.shadow, languages)
    baseline = None
    if usable and noise is not None and replies.noise is not None and noise_measures is not None:
        languages = primary_measures.traits.language, noise_measures.traits.language
        if not noise.limited:
            baseline = _agreement(pair, noise, replies.primary, replies.noise, languages)
    if embedding is not None:
        agreement = _with_meaning(agreement, replies.primary, replies.shadow, embedding)
        if baseline is not None and replies.noise is not None:
            baseline = _with_meaning(baseline, replies.primary, replies.noise, embedding)
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


def _agreement(
    pair: Pair, other: Leg, first: Reply, second: Reply, languages: tuple[str | None, str | None]
) -> Agreement:
    """Compare the answer of a copy (`other`, `second`) with the answer of the primary (`first`)."""
    if not _comparable(pair.primary, first, other):
        return Agreement()
    if first.unread is not None or not (first.is_generated or first.kind in ANSWER_KINDS):
        return Agreement(exact=pair.primary.response.data == other.response.data)
    if second.unread in _UNKNOWN_CONTENT:
        return Agreement()
    if second.unread is not None or not _same_family(first, second):
        # The primary returned a model's answer and the copy did not: they have nothing in common.
        return Agreement(**nothing_in_common(first, language=languages[0]))
    language = None if None in languages else languages[0] == languages[1]
    measures = measure_answers(first, second)
    if measures is not None:
        return Agreement(**{**measures, "language": language})
    calls = same_calls(first.tool_calls, second.tool_calls)
    complete = second.whole and not second.error
    same_text = first.text == second.text
    return Agreement(
        exact=complete and same_text and calls is not False,
        rouge_l=_if_text(first, 1.0) if same_text else rouge_l(first.text, second.text),
        edit=_if_text(first, 1.0) if same_text else edit_similarity(first.text, second.text),
        finish_reason=first.finish_reason == second.finish_reason,
        tool_calls=calls,
        language=language,
    )


def _same_family(first: Reply, second: Reply) -> bool:
    """Whether two answers are of one kind; generated text of any two kinds can be compared."""
    return first.kind is second.kind or (first.is_generated and second.is_generated)


def _with_meaning(
    agreement: Agreement, first: Reply, second: Reply, embedding: EmbeddingSimilarity
) -> Agreement:
    if agreement.rouge_l is None:
        return agreement
    return replace(agreement, meaning=embedding(first.text, second.text))


def _if_text(reply: Reply, value: float) -> float | None:
    return value if reply.text.strip() else None


def _comparable(primary: Leg, reply: Reply, other: Leg) -> bool:
    truncated = primary.response.truncated or other.response.truncated
    answered = other.status is not None and other.status < 400
    return primary.succeeded and reply.whole and not reply.error and answered and not truncated


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

"""The comparison of one pair: how the shadow leg and the noise leg differ from the primary leg.

Texts are compared only if the primary's answer is complete, the shadow at least began an answer, and neither
body was truncated by the capture limit. A shadow that stopped early or reported an error within its stream is
compared, because an incomplete answer is a difference. The answers are not compared if the client
disconnected, because the client cut the answer, not the model. They are not compared either if the limits on
shadow traffic prevented the shadow's answer; such pairs are counted as limited.

A body that could not be read is no evidence of equality: such a pair is counted as unread, by leg and reason.

If the pair has a noise leg, which is a second answer of the primary's variant, that answer is compared with
the primary's answer by the same rules. If both variants are the same model, the noise leg and the shadow leg
are interchangeable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirror_collector.compare.agreement import AGREEMENT_MEASURES, Agreement, agreement_of, with_meaning
from mirror_collector.compare.answers import ANSWER_MEASURES
from mirror_collector.compare.leg_measures import (
    Expected,
    LegMeasures,
    TokenSource,
    measure_leg,
    token_source,
)
from mirror_collector.compare.readability import is_fault_beside_answer
from mirror_collector.compare.tools import offered_tools
from mirror_collector.compare.traits import requests_json
from mirror_collector.exchange import Api, Reply, Role, api_of, api_of_answer, read_reply

if TYPE_CHECKING:
    from mirror_collector.compare.embedding import EmbeddingSimilarity
    from mirror_collector.exchange import Leg, Pair, UnreadReason

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

VERSION: Final = 3
"""Version of the comparison. It increases whenever a pair would be measured differently; results of different
versions are never added up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of comparing one pair; None for whatever could not be compared."""

    version: int
    api: Api
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
    def unread(self) -> tuple[tuple[Role, UnreadReason], ...]:
        """The legs whose answers could not be read, with the reasons."""
        legs = ((Role.PRIMARY, self.primary), (Role.SHADOW, self.shadow), (Role.NOISE, self.noise))
        return tuple((role, leg.unread) for role, leg in legs if leg is not None and leg.unread is not None)

    @property
    def is_unread(self) -> bool:
        """Whether the primary's or the shadow's answer could not be read."""
        return self.primary.unread is not None or self.shadow.unread is not None

    @property
    def read(self) -> bool:
        """Whether both answers were read and neither leg failed.

        False for pairs whose client disconnected and for limited pairs.
        """
        failed = self.primary.traits.failed or self.shadow.traits.failed
        return not (self.client_left or self.limited or self.is_unread or failed)

    @property
    def unreadable_leg(self) -> Role | None:
        """The leg whose body is defective, if the other leg's answer was read; None without such a leg."""
        for role, leg, other in (
            (Role.PRIMARY, self.primary, self.shadow),
            (Role.SHADOW, self.shadow, self.primary),
        ):
            other_read = other.unread is None and not other.traits.failed
            if other_read and leg.unread is not None and is_fault_beside_answer(leg.unread):
                return role
        return None

    @property
    def similarity(self) -> float | None:
        """Score for sorting pairs, from 0.0 (worst) to 1.0 (equal); None if nothing can be compared.

        The score is 0.0 if the statuses or the tool calls differ, or if only the shadow's body is defective.
        """
        if self.client_left or self.limited:
            return None
        if not self.status_same or self.agreement.tool_calls is False or self.unreadable_leg is Role.SHADOW:
            return 0.0
        if self.is_unread:
            return None
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
    source = token_source(replies.primary, replies.shadow)
    expected = Expected(wants_json=requests_json(primary.request), tools=offered_tools(primary.request))
    shadow_measures = measure_leg(shadow, replies.shadow, source, expected)
    primary_measures = measure_leg(primary, replies.primary, source, expected)
    noise_measures = None
    if noise is not None and replies.noise is not None:
        noise_measures = measure_leg(noise, replies.noise, source, expected)
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
    texts_compared = agreement.rouge_l is not None and replies.primary.text and not shadow_measures.unread
    return Comparison(
        version=VERSION,
        api=api_of_answer(primary.path, replies.primary),
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


def _completed(leg: Leg) -> bool:
    return leg.failure is None and leg.complete


def _status_class(leg: Leg) -> int | None:
    return None if leg.status is None else leg.status // 100

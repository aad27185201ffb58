"""The differences between the legs of one pair, and how much answers differ by themselves.

Text is compared only where there is something to compare: the primary gave a whole answer, the shadow began
one, and neither was cut by the capture's own cap. A shadow that broke off or reported an error in mid-stream
*is* compared; that it fell short is a finding. Where the client left, nothing is compared: the cut is the
user's, not the model's. Where limits on copies are why there is no answer, nothing is compared either: that
is our doing, and counted as such.

The second answer of the primary's variant, where there is one, is held against the primary by the very same
rules: were both variants the same model, it and the shadow's answer could change places.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, assert_never

from mirror_collector.compare.similarity import edit_similarity, rouge_l
from mirror_collector.compare.traits import Traits, asks_for_json, traits
from mirror_collector.exchange import Reply, ToolCall, read_reply

if TYPE_CHECKING:
    from mirror_collector.compare.embedding import Embedder
    from mirror_collector.exchange import Leg, Pair

__all__ = [
    "AGREEMENT",
    "VERSION",
    "ComparedPair",
    "Comparison",
    "Likeness",
    "Measures",
    "Replies",
    "TokenSource",
    "compare",
]

VERSION: Final = 2
"""Grows whenever the same pair would be measured differently; results of different versions do not mix."""

AGREEMENT: Final = ("exact", "rouge_l", "edit", "meaning", "finish_reason", "tool_calls", "language")
"""By what two answers to one request are compared, as named in `Likeness`."""


class TokenSource(Enum):
    """Where token counts come from."""

    USAGE = "usage"
    """Both legs reported their usage."""

    CHUNKS = "chunks"
    """An estimate: tokens by log probabilities, else events that carried content, of two streams."""

    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """One leg in numbers."""

    traits: Traits
    kind: str
    status: int | None
    failure: str | None
    succeeded: bool
    first_token_ms: float | None
    inter_token_ms: float | None
    """Mean time between content events of a stream."""

    total_ms: float | None
    tokens: int | None
    """Completion tokens, counted in one way for both legs."""

    spent: int | None
    """Completion tokens by the best count there is of this leg alone."""

    characters: int
    finish_reason: str | None
    mean_logprob: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How alike two answers to one request are; None where that could not be said."""

    exact: bool | None = None
    """The same text and the same tool calls (or, for opaque bodies, the same bytes)."""

    rouge_l: float | None = None
    edit: float | None = None
    meaning: float | None = None
    """By word embeddings, where those are asked for."""

    finish_reason: bool | None = None
    tool_calls: bool | None = None
    """The same names in the same order with equal JSON arguments; None where neither called a tool."""

    language: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One pair in numbers; None stands for what could not be compared."""

    version: int
    client_left: bool
    limited: bool
    """Whether our own limits on copies kept the shadow from answering."""

    primary: Measures
    shadow: Measures
    noise: Measures | None
    status_same: bool
    """The same status, and both or neither came to a proper end."""

    status_class_same: bool
    like: Likeness
    """The shadow's answer and the primary's."""

    floor: Likeness | None
    """The second answer of the primary's variant and the primary's; None without one that counts."""

    length_ratio: float | None
    """Characters of the shadow's text by those of the primary's."""

    token_source: TokenSource

    @property
    def similarity(self) -> float | None:
        """One number to sort by, 0.0 (worst) to 1.0; None where the pair says nothing about quality."""
        if self.client_left or self.limited:
            return None
        if not self.status_same or self.like.tool_calls is False:
            return 0.0
        if self.like.exact:
            return 1.0
        if self.like.exact is None:
            return None
        return self.like.rouge_l or 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """What was said on each leg."""

    primary: Reply
    shadow: Reply
    noise: Reply | None = None

    @classmethod
    def of(cls, pair: Pair) -> Replies:
        """Read the answers of a pair."""
        return cls(
            primary=read_reply(pair.primary.response),
            shadow=read_reply(pair.shadow.response),
            noise=None if pair.noise is None else read_reply(pair.noise.response),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPair:
    """A pair, the replies read from its legs, and the comparison of both."""

    pair: Pair
    replies: Replies
    comparison: Comparison
    pair_id: int = 0
    """Id of the pair in the store; 0 before it is stored."""


def compare(pair: Pair, replies: Replies | None = None, *, embedder: Embedder | None = None) -> Comparison:
    """Measure one pair; never raises, whatever the bodies hold.

    Args:
        pair: the legs.
        replies: those of `Replies.of`, where they are known already.
        embedder: how meanings are compared, if at all.
    """
    said = replies or Replies.of(pair)
    primary, shadow, noise = pair.primary, pair.shadow, pair.noise
    source = _token_source(said.primary, said.shadow)
    json_asked = asks_for_json(primary.request)
    mine = _measures(shadow, said.shadow, source, wants_json=json_asked)
    users = _measures(primary, said.primary, source, wants_json=json_asked)
    second = None
    if noise is not None and said.noise is not None:
        second = _measures(noise, said.noise, source, wants_json=json_asked)
    counts = not pair.client_left and not shadow.limited
    tongue = users.traits.language
    like = Likeness()
    if counts:
        like = _likeness(pair, shadow, said.primary, said.shadow, (tongue, mine.traits.language))
    floor = None
    if counts and noise is not None and said.noise is not None and second is not None and not noise.limited:
        floor = _likeness(pair, noise, said.primary, said.noise, (tongue, second.traits.language))
    if embedder is not None:
        like = _with_meaning(like, said.primary, said.shadow, embedder)
        if floor is not None and said.noise is not None:
            floor = _with_meaning(floor, said.primary, said.noise, embedder)
    spoke = like.rouge_l is not None and said.primary.text
    return Comparison(
        version=VERSION,
        client_left=pair.client_left,
        limited=shadow.limited,
        primary=users,
        shadow=mine,
        noise=second,
        status_same=primary.status == shadow.status and _ended(primary) == _ended(shadow),
        status_class_same=_class(primary) == _class(shadow) and _ended(primary) == _ended(shadow),
        like=like,
        floor=floor,
        length_ratio=len(said.shadow.text) / len(said.primary.text) if spoke else None,
        token_source=source,
    )


def _likeness(
    pair: Pair, other: Leg, said: Reply, answered: Reply, tongues: tuple[str | None, str | None]
) -> Likeness:
    """Hold the answer of a copy against that of the primary; `tongues` are the languages of both."""
    if not _comparable(pair.primary, said, other):
        return Likeness()
    if not said.spoken:
        return Likeness(exact=pair.primary.response.data == other.response.data)
    if not answered.spoken:
        # The primary spoke and the copy uttered something else: nothing in common.
        return Likeness(exact=False, rouge_l=0.0, edit=0.0)
    same_calls = _same_calls(said.tool_calls, answered.tool_calls)
    whole = answered.whole and not answered.error
    same = said.text == answered.text
    return Likeness(
        exact=whole and same and same_calls is not False,
        rouge_l=_if_said(said, 1.0) if same else rouge_l(said.text, answered.text),
        edit=_if_said(said, 1.0) if same else edit_similarity(said.text, answered.text),
        finish_reason=said.finish_reason == answered.finish_reason,
        tool_calls=same_calls,
        language=None if None in tongues else tongues[0] == tongues[1],
    )


def _with_meaning(like: Likeness, said: Reply, answered: Reply, embedder: Embedder) -> Likeness:
    if like.rouge_l is None:
        return like
    return replace(like, meaning=embedder(said.text, answered.text))


def _if_said(reply: Reply, value: float) -> float | None:
    return value if reply.text.strip() else None


def _comparable(primary: Leg, said: Reply, other: Leg) -> bool:
    capped = primary.response.capped or other.response.capped
    answered = other.status is not None and other.status < 400
    return primary.succeeded and said.whole and not said.error and answered and not capped


def _same_calls(one: tuple[ToolCall, ...], two: tuple[ToolCall, ...]) -> bool | None:
    if not one and not two:
        return None
    if len(one) != len(two):
        return False
    return all(
        first.name == second.name and _same_json(first.arguments, second.arguments)
        for first, second in zip(one, two, strict=True)
    )


def _same_json(one: str, two: str) -> bool:
    """Equal by value: key order, spacing and the spelling of numbers do not matter."""
    if one == two:
        return True
    try:
        return _equal(json.loads(one, parse_float=Decimal), json.loads(two, parse_float=Decimal))
    except (ArithmeticError, RecursionError, ValueError):
        return False


def _equal(one: Any, two: Any) -> bool:
    """True and 1 are equal in Python, but not in JSON."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_equal(value, two[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_equal, one, two))
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    return bool(one == two)


def _token_source(one: Reply, two: Reply) -> TokenSource:
    if one.completion_tokens is not None and two.completion_tokens is not None:
        return TokenSource.USAGE
    if one.content_chunks is not None and two.content_chunks is not None:
        return TokenSource.CHUNKS
    return TokenSource.NONE


def _measures(leg: Leg, reply: Reply, source: TokenSource, *, wants_json: bool) -> Measures:
    first, total = _since(leg.started_us, leg.first_chunk_us), _since(leg.started_us, leg.last_chunk_us)
    events = reply.content_chunks or 0
    return Measures(
        traits=traits(leg, reply, wants_json=wants_json),
        kind=reply.kind.value,
        status=leg.status,
        failure=None if leg.failure is None else leg.failure.value,
        succeeded=leg.succeeded and not reply.error,
        first_token_ms=first,
        inter_token_ms=(total - first) / (events - 1)
        if first is not None and total is not None and events > 1
        else None,
        total_ms=total,
        tokens=_tokens(reply, source),
        spent=reply.content_chunks if reply.completion_tokens is None else reply.completion_tokens,
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


def _since(start_us: int, end_us: int | None) -> float | None:
    """Milliseconds; None where the end is unknown or, by a clock that was set, before the start."""
    return (end_us - start_us) / 1000 if end_us is not None and end_us >= start_us else None


def _ended(leg: Leg) -> bool:
    return leg.failure is None and leg.complete


def _class(leg: Leg) -> int | None:
    return None if leg.status is None else leg.status // 100

"""The differences between the two legs of one pair.

Text is compared only where there is something to compare: the primary gave a whole answer, the shadow began
one, and neither was cut by the capture's own cap. A shadow that broke off or reported an error in mid-stream
*is* compared; that it fell short is a finding. Where the client left, nothing is compared: the cut is the
user's, not the model's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, assert_never

from mirror_collector.compare.text import rouge_l
from mirror_collector.exchange import Reply, ReplyKind, ToolCall, read_reply

if TYPE_CHECKING:
    from mirror_collector.exchange import Leg, Pair

__all__ = ["VERSION", "Comparison", "Measures", "TokenSource", "compare"]

VERSION: Final = 1
"""Grows whenever the same pair would be measured differently; results of different versions do not mix."""


class TokenSource(Enum):
    """Where token counts come from."""

    USAGE = "usage"
    """Both legs reported their usage."""

    CHUNKS = "chunks"
    """An estimate: events that carried content, of two streams."""

    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """One leg in numbers."""

    kind: ReplyKind
    status: int | None
    failure: str | None
    succeeded: bool
    first_token_ms: float | None
    total_ms: float | None
    tokens: int | None
    """Completion tokens."""

    characters: int
    finish_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One pair in numbers; None stands for what could not be compared."""

    version: int
    client_left: bool
    primary: Measures
    shadow: Measures
    status_same: bool
    """The same status, and both or neither came to a proper end."""

    status_class_same: bool
    exact: bool | None
    """The same text and the same tool calls (or, for opaque bodies, the same bytes)."""

    rouge_l: float | None
    finish_reason_same: bool | None
    tool_calls_same: bool | None
    """The same names in the same order with equal JSON arguments; None where neither leg called a tool."""

    length_ratio: float | None
    """Characters of the shadow's text by those of the primary's."""

    token_source: TokenSource

    @property
    def similarity(self) -> float | None:
        """One number to sort by, 0.0 (worst) to 1.0; None where the pair says nothing about quality."""
        if self.client_left:
            return None
        if not self.status_same or self.tool_calls_same is False:
            return 0.0
        if self.exact:
            return 1.0
        if self.exact is None:
            return None
        return self.rouge_l or 0.0


def compare(pair: Pair) -> Comparison:
    """Measure one pair; never raises, whatever the bodies hold."""
    primary, shadow = pair.primary, pair.shadow
    replies = read_reply(primary.response), read_reply(shadow.response)
    source = _token_source(*replies)
    texts = not pair.client_left and _comparable(primary, replies[0], shadow)
    content = _content(pair, *replies) if texts else _NOTHING
    return Comparison(
        version=VERSION,
        client_left=pair.client_left,
        primary=_measures(primary, replies[0], source),
        shadow=_measures(shadow, replies[1], source),
        status_same=primary.status == shadow.status and _ended(primary) == _ended(shadow),
        status_class_same=_class(primary) == _class(shadow) and _ended(primary) == _ended(shadow),
        exact=content.exact,
        rouge_l=content.rouge_l,
        finish_reason_same=content.finish_reason_same,
        tool_calls_same=content.tool_calls_same,
        length_ratio=content.length_ratio,
        token_source=source,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    exact: bool | None = None
    rouge_l: float | None = None
    finish_reason_same: bool | None = None
    tool_calls_same: bool | None = None
    length_ratio: float | None = None


_NOTHING: Final = _Content()
_SPOKEN: Final = frozenset({ReplyKind.CHAT, ReplyKind.COMPLETION})


def _comparable(primary: Leg, said: Reply, shadow: Leg) -> bool:
    capped = primary.response.capped or shadow.response.capped
    answered = shadow.status is not None and shadow.status < 400
    return primary.succeeded and said.whole and not said.error and answered and not capped


def _content(pair: Pair, said: Reply, answered: Reply) -> _Content:
    if said.kind not in _SPOKEN:
        return _Content(exact=pair.primary.response.data == pair.shadow.response.data)
    if answered.kind not in _SPOKEN:
        # The primary spoke and the shadow uttered something else: nothing in common.
        return _Content(exact=False, rouge_l=0.0)
    same_calls = _same_calls(said.tool_calls, answered.tool_calls)
    whole = answered.whole and not answered.error
    return _Content(
        exact=whole and said.text == answered.text and same_calls is not False,
        rouge_l=rouge_l(said.text, answered.text),
        finish_reason_same=said.finish_reason == answered.finish_reason,
        tool_calls_same=same_calls,
        length_ratio=len(answered.text) / len(said.text) if said.text else None,
    )


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


def _measures(leg: Leg, reply: Reply, source: TokenSource) -> Measures:
    return Measures(
        kind=reply.kind,
        status=leg.status,
        failure=None if leg.failure is None else leg.failure.value,
        succeeded=leg.succeeded and not reply.error,
        first_token_ms=_since(leg.started_us, leg.first_chunk_us),
        total_ms=_since(leg.started_us, leg.last_chunk_us),
        tokens=_tokens(reply, source),
        characters=len(reply.text),
        finish_reason=reply.finish_reason,
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

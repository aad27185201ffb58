"""Agreement of two answers to one request.

Answers are compared only if the primary's answer is complete, the copy at least began an answer, and neither
body was truncated by the capture limit.

If the primary's answer was read, and the copy's body is no answer of the same kind, the two count as having
nothing in common. A copy's body whose encoding is not supported, or that exceeds a limit of the collector, is
no evidence. If the primary's body could not be read, only the bytes are compared, for display.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mirror_collector.compare.answers import (
    ANSWER_KINDS,
    ANSWER_MEASURES,
    measure_answers,
    nothing_in_common,
)
from mirror_collector.compare.similarity import edit_similarity, rouge_l
from mirror_collector.compare.tool_calls import same_calls
from mirror_collector.exchange import UnreadReason

if TYPE_CHECKING:
    from mirror_collector.compare.embedding import EmbeddingSimilarity
    from mirror_collector.exchange import Leg, Pair, Reply

__all__ = ["AGREEMENT_MEASURES", "Agreement", "agreement_of", "with_meaning"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two answers to one request agree; None for each measure that could not be determined."""

    exact: bool | None = None
    """Whether the answers are equal: text and tool calls, vectors, scores or documents.

    If the primary's answer could not be read, this is whether the bytes of the bodies are equal.
    """

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
    """Whether two orders of documents begin with the same document."""

    scores: float | None = None
    transcript: float | None = None
    """1 minus the word error rate of a transcript."""

    document: float | None = None
    """Closeness of the fields of two JSON documents."""


def agreement_of(
    pair: Pair, other: Leg, first: Reply, second: Reply, languages: tuple[str | None, str | None]
) -> Agreement:
    """Compare the answer of a copy (`other`, `second`) with the answer of the primary (`first`)."""
    if not _comparable(pair.primary, first, other):
        return Agreement()
    if first.unread is not None or not (first.is_generated or first.kind in ANSWER_KINDS):
        return Agreement(exact=pair.primary.response.data == other.response.data)
    if second.unread in _UNKNOWN_CONTENT and other.complete:
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


def with_meaning(
    agreement: Agreement, first: Reply, second: Reply, embedding: EmbeddingSimilarity
) -> Agreement:
    """Return an agreement with the similarity of meaning, if the texts were compared."""
    if agreement.rouge_l is None:
        return agreement
    return replace(agreement, meaning=embedding(first.text, second.text))


def _if_text(reply: Reply, value: float) -> float | None:
    return value if reply.text.strip() else None


def _comparable(primary: Leg, reply: Reply, other: Leg) -> bool:
    truncated = primary.response.truncated or other.response.truncated
    answered = other.status is not None and other.status < 400
    return primary.succeeded and reply.whole and not reply.error and answered and not truncated

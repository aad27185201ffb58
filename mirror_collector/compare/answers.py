"""Measures of two answers to one request that are not generated text: by kind of the answers.

=========== ==================================================================================
kind        measures
=========== ==================================================================================
embeddings  `vector`: lowest cosine similarity of all inputs
ranking     `ranking`: Spearman's correlation of the orders; `top_result`: same first document
scores      `scores`: mean closeness; with several scores, `ranking` and `top_result` as well
transcript  `transcript`: 1 minus the word error rate
document    `document`: mean closeness of the fields
=========== ==================================================================================

Most of these answers are deterministic. The noise baseline shows whether they are: the agreement of the
candidate's answer is compared with the baseline, and never with a fixed limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mirror_collector.compare.numeric import (
    document_agreement,
    rank_agreement,
    score_agreement,
    vector_agreement,
)
from mirror_collector.compare.similarity import word_error_rate
from mirror_collector.exchange import ReplyKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirror_collector.exchange import Reply

__all__ = ["ANSWER_KINDS", "ANSWER_MEASURES", "measure_answers", "nothing_in_common"]

ANSWER_MEASURES: Final = ("vector", "ranking", "top_result", "scores", "transcript", "document")
"""Names of the measures of this module; each is a field of `Agreement`."""

Measures = dict[str, Any]
"""Values by name of the measure: a number in [0, 1], or whether the answers agree; None if not applicable."""


def measure_answers(first: Reply, second: Reply) -> Measures | None:
    """Return the measures of two readable answers of one kind, and `exact`; None for generated text."""
    measure = _BY_KIND.get(first.kind)
    return None if measure is None else measure(first, second)


def nothing_in_common(first: Reply, *, language: str | None = None) -> Measures:
    """Return the measures of an answer and something that is no answer of its kind.

    Args:
        first: the answer.
        language: its language, if known.
    """
    measures: Measures = {"exact": False, "language": None if language is None else False}
    if first.kind in _NAMES:
        return {**measures, **dict.fromkeys(_NAMES[first.kind], 0.0)}
    calls = False if first.tool_calls else None
    return {**measures, "rouge_l": 0.0, "edit": 0.0, "tool_calls": calls}


def _embeddings(first: Reply, second: Reply) -> Measures:
    return {
        "exact": first.vectors == second.vectors,
        "vector": vector_agreement(first.vectors, second.vectors),
    }


def _ranking(first: Reply, second: Reply) -> Measures:
    one, other = ([index for index, _ in reply.scores] for reply in (first, second))
    return {
        "exact": first.scores == second.scores,
        "ranking": rank_agreement(one, other),
        "top_result": one[:1] == other[:1],
    }


def _scores(first: Reply, second: Reply) -> Measures:
    one, other = dict(first.scores), dict(second.scores)
    if one.keys() != other.keys():
        return nothing_in_common(first)
    closeness, ranking = score_agreement(list(one.values()), [other[index] for index in one])
    return {
        "exact": first.scores == second.scores,
        "scores": closeness,
        "ranking": ranking,
        "top_result": None if ranking is None else _top(one) == _top(other),
    }


def _top(scores: dict[int, float]) -> int:
    return max(sorted(scores), key=lambda index: scores[index])


def _transcript(first: Reply, second: Reply) -> Measures:
    complete = second.whole and not second.error
    return {
        "exact": complete and first.text == second.text,
        "transcript": 1.0 - word_error_rate(first.text, second.text),
    }


def _document(first: Reply, second: Reply) -> Measures:
    return {
        "exact": first.document == second.document,
        "document": document_agreement(first.document, second.document),
    }


_BY_KIND: Final[dict[ReplyKind, Callable[[Reply, Reply], Measures]]] = {
    ReplyKind.EMBEDDINGS: _embeddings,
    ReplyKind.RANKING: _ranking,
    ReplyKind.SCORES: _scores,
    ReplyKind.TRANSCRIPT: _transcript,
    ReplyKind.DOCUMENT: _document,
}
ANSWER_KINDS: Final = frozenset(_BY_KIND)
"""Kinds of answers that `measure_answers` measures."""

_NAMES: Final = {
    ReplyKind.EMBEDDINGS: ("vector",),
    ReplyKind.RANKING: ("ranking", "top_result"),
    ReplyKind.SCORES: ("scores",),
    ReplyKind.TRANSCRIPT: ("transcript",),
    ReplyKind.DOCUMENT: ("document",),
}

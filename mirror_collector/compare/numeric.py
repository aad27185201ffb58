"""Agreement of answers that are numbers: embeddings, rankings, scores and JSON documents.

All values are in [0, 1]. Computed values are rounded to `_DIGITS` digits, because their last bits depend on
batch and hardware. If the noise baseline is exactly 1, a different last bit would otherwise count as a
difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "document_agreement",
    "rank_agreement",
    "ranks_of_scores",
    "score_agreement",
    "vector_agreement",
]

_DIGITS: Final = 3
_MAX_FIELDS: Final = 20_000


def vector_agreement(first: Sequence[bytes], second: Sequence[bytes]) -> float:
    """Return the lowest cosine similarity of two embeddings of the same input, clamped to [0, 1].

    The lowest and not the mean, because one broken input of a large batch is a broken answer. The result is 0
    if the numbers of inputs differ, or the dimensions of the embeddings of any input.
    """
    if len(first) != len(second):
        return 0.0
    return min((_cosine(*pair) for pair in zip(first, second, strict=True)), default=1.0)


def _cosine(first: bytes, second: bytes) -> float:
    if first == second:
        return 1.0
    if len(first) != len(second):
        return 0.0
    one, other = (np.frombuffer(data, dtype="<f4").astype(np.float64) for data in (first, second))
    with np.errstate(all="ignore"):
        cosine = float(one @ other / np.sqrt((one @ one) * (other @ other)))
    # The cosine is not a number if a vector is zero or contains an infinite value; no search can use such a
    # vector.
    return round(min(1.0, max(0.0, cosine)), _DIGITS) if cosine == cosine else 0.0  # noqa: PLR0124


def rank_agreement(first: Sequence[int], second: Sequence[int]) -> float | None:
    """Return Spearman's correlation of two orders of documents, scaled to [0, 1].

    Documents that only one of the orders contains share the places after the last document of the other.

    Returns:
        1.0 for the same order, 0.5 without correlation, 0.0 for the reverse order or if one of the orders is
        empty; None if there are fewer than two documents.
    """
    documents = sorted({*first, *second})
    if len(documents) < _MIN_RANKED:
        return None
    if not first or not second:
        return 0.0
    return _correlation(*(_places(order, documents) for order in (first, second)))


_MIN_RANKED: Final = 2


def _places(order: Sequence[int], documents: Sequence[int]) -> list[float]:
    places = {document: float(place) for place, document in enumerate(order)}
    last = (len(order) + len(documents) - 1) / 2
    return [places.get(document, last) for document in documents]


def ranks_of_scores(scores: Sequence[float]) -> list[float]:
    """Return the place of each score, the highest first; equal scores share the mean of their places."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    ranks = [0.0] * len(scores)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + end - 1) / 2
        start = end
    return ranks


def score_agreement(first: Sequence[float], second: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean closeness of two lists of scores, and the correlation of their ranks.

    The correlation is scaled as in `rank_agreement`; None below two scores. Both are 0 if the lists have
    different lengths.
    """
    if len(first) != len(second):
        return 0.0, 0.0
    closeness = [_closeness(*pair) for pair in zip(first, second, strict=True)]
    mean = round(sum(closeness) / len(closeness), _DIGITS) if closeness else 1.0
    if len(first) < _MIN_RANKED:
        return mean, None
    return mean, _correlation(ranks_of_scores(first), ranks_of_scores(second))


def _correlation(first: Sequence[float], second: Sequence[float]) -> float:
    one, other = (np.array(ranks) - np.mean(ranks) for ranks in (first, second))
    spread = float(np.sqrt((one @ one) * (other @ other)))
    if spread == 0.0:
        # In at least one list, all ranks are tied. If they are tied in both lists, the orders agree; if in
        # only one, there is no correlation.
        return 1.0 if not one.any() and not other.any() else 0.5
    return round(min(1.0, max(0.0, (float(one @ other) / spread + 1) / 2)), _DIGITS)


def document_agreement(first: str, second: str) -> float:
    """Return the mean closeness of the fields of two JSON documents; a missing field counts as 0."""
    if first == second:
        return 1.0
    one, other = (dict(_fields(orjson.loads(text))) for text in (first, second))
    names = {*one, *other}
    if not names:
        return 1.0
    close = sum(_field_closeness(one[name], other[name]) for name in names if name in one and name in other)
    return round(close / len(names), _DIGITS)


def _fields(value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the path and the value of each scalar, empty object and empty list, at most `_MAX_FIELDS`."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    count = 0
    while stack and count < _MAX_FIELDS:
        path, value = stack.pop()
        if isinstance(value, dict) and value:
            stack.extend(((*path, name), item) for name, item in value.items())
        elif isinstance(value, list) and value:
            stack.extend(((*path, index), item) for index, item in enumerate(value))
        else:
            count += 1
            yield path, value


def _field_closeness(first: Any, second: Any) -> float:
    numbers = [value for value in (first, second) if _is_number(value)]
    if len(numbers) == 2:
        return _closeness(float(first), float(second))
    return float(type(first) is type(second) and first == second)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _closeness(first: float, second: float) -> float:
    """Return 1 minus the difference, which is divided by the larger absolute value if that is above 1."""
    return 1.0 - min(1.0, abs(first - second) / max(1.0, abs(first), abs(second)))

"""Similarity of two texts."""

from __future__ import annotations

import re
from typing import Final

from rapidfuzz.distance import LCSseq

__all__ = ["rouge_l"]

_MAX_WORDS: Final = 4000

# Scripts written without spaces have no words to split at: there, every character counts as one.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def rouge_l(first: str, second: str) -> float | None:
    """ROUGE-L F1 of two texts over their first 4,000 words, without regard to case and punctuation.

    Returns:
        0.0 (no word in common) to 1.0 (the same words in the same order); None where neither has a word.
    """
    numbers: dict[str, int] = {}
    one, two = _numbered(first, numbers), _numbered(second, numbers)
    if not one and not two:
        return None
    # F1 of LCS/len(one) and LCS/len(two).
    return 2 * LCSseq.similarity(one, two) / (len(one) + len(two))


def _numbered(text: str, numbers: dict[str, int]) -> list[int]:
    """Each word as a number, the same for the same word: nothing is left to hash collisions."""
    words: list[int] = []
    for match in _WORD.finditer(text):
        if len(words) == _MAX_WORDS:
            break
        words.append(numbers.setdefault(match.group().casefold(), len(numbers)))
    return words

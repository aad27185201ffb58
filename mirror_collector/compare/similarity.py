"""Similarity of two texts."""

from __future__ import annotations

import re
from typing import Final

from rapidfuzz.distance import Indel, LCSseq

__all__ = ["edit_similarity", "rouge_l"]

_MAX_WORDS: Final = 4000
_MAX_CHARACTERS: Final = 8000

# Scripts written without spaces have no words to split at: there, every character counts as one.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_SMALL: Final = bytes(
    ord(chr(code).lower()) if code < 128 and (chr(code).isalnum() or chr(code) == "_") else 0x20
    for code in range(256)
)
"""What makes up words to small letters, everything else to spaces."""


def rouge_l(first: str, second: str) -> float | None:
    """ROUGE-L F1 of two texts over their first 4,000 words, without regard to case and punctuation.

    Returns:
        0.0 (no word in common) to 1.0 (the same words in the same order); None where neither has a word.
    """
    plain = first.isascii() and second.isascii()
    one, two = (_ascii_words(first), _ascii_words(second)) if plain else (_words(first), _words(second))
    if not one and not two:
        return None
    # Each word as a number, the same for the same word: nothing is left to hash collisions.
    numbers = {word: number for number, word in enumerate({*one, *two})}
    # F1 of LCS/len(one) and LCS/len(two).
    found = LCSseq.similarity([numbers[word] for word in one], [numbers[word] for word in two])
    return 2 * found / (len(one) + len(two))


def edit_similarity(first: str, second: str) -> float | None:
    """The share of characters that need not be inserted or deleted, over the first 8,000.

    Returns:
        0.0 to 1.0 (the same text); None where both are empty.
    """
    if not first and not second:
        return None
    return Indel.normalized_similarity(first[:_MAX_CHARACTERS], second[:_MAX_CHARACTERS])


def _ascii_words(text: str) -> list[bytes]:
    return text.encode().translate(_SMALL).split(maxsplit=_MAX_WORDS)[:_MAX_WORDS]


def _words(text: str) -> list[str]:
    return [match.casefold() for match in _WORD.findall(text)[:_MAX_WORDS]]

"""Similarity of two texts by common words (ROUGE-L), by common characters and by word errors."""

from __future__ import annotations

import re
from typing import Final

from rapidfuzz.distance import Indel, LCSseq, Levenshtein

__all__ = ["edit_similarity", "rouge_l", "word_error_rate"]

_MAX_WORDS: Final = 4000
_MAX_CHARACTERS: Final = 8000

# Scripts written without spaces cannot be split into words; each of their characters counts as a word.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_WORD_TABLE: Final = bytes(
    ord(chr(code).lower()) if code < 128 and (chr(code).isalnum() or chr(code) == "_") else 0x20
    for code in range(256)
)
"""Maps word characters to lowercase and all other bytes to spaces."""


def rouge_l(first: str, second: str) -> float | None:
    """Return the ROUGE-L F1 score of the first 4,000 words of two texts, ignoring case and punctuation.

    Returns:
        0.0 (no common word) to 1.0 (the same words in the same order); None if neither text has a word.
    """
    first_words, second_words = _numbered_words(first, second)
    if not first_words and not second_words:
        return None
    # This is the F1 score of precision LCS/len(second) and recall LCS/len(first).
    common = LCSseq.similarity(first_words, second_words)
    return 2 * common / (len(first_words) + len(second_words))


def word_error_rate(reference: str, text: str) -> float:
    """Return the word errors per word of the reference, at most 1, ignoring case and punctuation.

    An error is a word that was inserted, deleted or replaced. Only the first 4,000 words are compared.

    Returns:
        0.0 (the same words, or no words in both) to 1.0 (at least as many errors as words).
    """
    reference_words, words = _numbered_words(reference, text)
    if not reference_words:
        return 1.0 if words else 0.0
    return min(1.0, Levenshtein.distance(reference_words, words) / len(reference_words))


def _numbered_words(first: str, second: str) -> tuple[list[int], list[int]]:
    """Return the words of two texts as numbers, so that no hash collision can make different words equal."""
    ascii_only = first.isascii() and second.isascii()
    first_words, second_words = (
        (_ascii_words(first), _ascii_words(second)) if ascii_only else (_words(first), _words(second))
    )
    numbers = {word: number for number, word in enumerate({*first_words, *second_words})}
    return [numbers[word] for word in first_words], [numbers[word] for word in second_words]


def edit_similarity(first: str, second: str) -> float | None:
    """Return the share of the first 8,000 characters of two texts that need no insertion or deletion.

    Returns:
        0.0 to 1.0 (equal texts); None if both texts are empty.
    """
    if not first and not second:
        return None
    return Indel.normalized_similarity(first[:_MAX_CHARACTERS], second[:_MAX_CHARACTERS])


def _ascii_words(text: str) -> list[bytes]:
    return text.encode().translate(_WORD_TABLE).split(maxsplit=_MAX_WORDS)[:_MAX_WORDS]


def _words(text: str) -> list[str]:
    return [match.casefold() for match in _WORD.findall(text)[:_MAX_WORDS]]

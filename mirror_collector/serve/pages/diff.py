"""Word-by-word diff of two texts. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from rapidfuzz.distance import LCSseq

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DiffPart", "word_diff"]

_WORD: Final = re.compile(r"\s+|[^\W_]+|[^\s\w]|_")
_MAX_WORDS: Final = 6_000
"""Number of words compared per text; the rest is shown as equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffPart:
    """A run of words; `side` names the text that contains it."""

    side: Literal["both", "first", "second"]
    text: str


def word_diff(first: str, second: str) -> tuple[list[DiffPart], list[DiffPart]]:
    """Return the parts of each text, marked as common to both texts or as contained in only one."""
    first_words, second_words = _WORD.findall(first), _WORD.findall(second)
    numbers = {word: number for number, word in enumerate({*first_words, *second_words})}
    encoded = (
        [numbers[word] for word in first_words[:_MAX_WORDS]],
        [numbers[word] for word in second_words[:_MAX_WORDS]],
    )
    left: list[DiffPart] = []
    right: list[DiffPart] = []
    for step in LCSseq.opcodes(*encoded):
        from_first = first_words[step.src_start : step.src_end]
        from_second = second_words[step.dest_start : step.dest_end]
        if step.tag == "equal":
            _add(left, "both", from_first)
            _add(right, "both", from_second)
        else:
            _add(left, "first", from_first)
            _add(right, "second", from_second)
    _add(left, "both", first_words[_MAX_WORDS:])
    _add(right, "both", second_words[_MAX_WORDS:])
    return list(_joined(left)), list(_joined(right))


def _add(parts: list[DiffPart], side: Literal["both", "first", "second"], words: list[str]) -> None:
    if words:
        parts.append(DiffPart(side=side, text="".join(words)))


def _joined(parts: list[DiffPart]) -> Iterator[DiffPart]:
    """Join changed words that only white space separates: three changed words in a row are one change."""
    current: DiffPart | None = None
    for number, part in enumerate(parts):
        following = parts[number + 1] if number + 1 < len(parts) else None
        if current is None:
            current = part
        elif part.side == current.side:
            current = DiffPart(side=part.side, text=current.text + part.text)
        elif part.text.isspace() and following is not None and following.side == current.side != "both":
            current = DiffPart(side=current.side, text=current.text + part.text)
        else:
            yield current
            current = part
    if current is not None:
        yield current

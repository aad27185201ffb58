"""Two texts word by word: what both say, and what only one of them does. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from rapidfuzz.distance import LCSseq

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Part", "word_diff"]

_WORD: Final = re.compile(r"\s+|[^\W_]+|[^\s\w]|_")
_MOST: Final = 6_000
"""Words looked at of each text; what comes after is shown as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A run of words; `side` says whose they are."""

    side: Literal["both", "first", "second"]
    text: str


def word_diff(first: str, second: str) -> tuple[list[Part], list[Part]]:
    """Return both texts in parts: what they share, and what only this one says."""
    one, two = _WORD.findall(first), _WORD.findall(second)
    numbers = {word: number for number, word in enumerate({*one, *two})}
    coded = [numbers[word] for word in one[:_MOST]], [numbers[word] for word in two[:_MOST]]
    left: list[Part] = []
    right: list[Part] = []
    for step in LCSseq.opcodes(*coded):
        mine, theirs = one[step.src_start : step.src_end], two[step.dest_start : step.dest_end]
        if step.tag == "equal":
            _add(left, "both", mine)
            _add(right, "both", theirs)
        else:
            _add(left, "first", mine)
            _add(right, "second", theirs)
    _add(left, "both", one[_MOST:])
    _add(right, "both", two[_MOST:])
    return list(_joined(left)), list(_joined(right))


def _add(parts: list[Part], side: Literal["both", "first", "second"], words: list[str]) -> None:
    if words:
        parts.append(Part(side=side, text="".join(words)))


def _joined(parts: list[Part]) -> Iterator[Part]:
    """Join what a lone space tears apart: three changed words in a row are one change."""
    waiting: Part | None = None
    for number, part in enumerate(parts):
        following = parts[number + 1] if number + 1 < len(parts) else None
        if waiting is None:
            waiting = part
        elif part.side == waiting.side:
            waiting = Part(side=part.side, text=waiting.text + part.text)
        elif part.text.isspace() and following is not None and following.side == waiting.side != "both":
            waiting = Part(side=waiting.side, text=waiting.text + part.text)
        else:
            yield waiting
            waiting = part
    if waiting is not None:
        yield waiting

"""Regular expressions that mean the same here and in a proxy, and that a proxy can afford.

Proxies read RE2, which has no lookaround, no backreferences and no atomic groups, and writes counts out. What
only one of the two would understand is refused: a proxy that cannot read an expression takes no new routes.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MOST_EXPANDED", "RegexError", "expanded"]

MOST_EXPANDED: Final = 5_000
_MOST_COUNT: Final = 1_000
_MOST_DEPTH: Final = 50
_ESCAPES: Final = "AbBdDsSwWafnrtvx"
_IN_CLASS: Final = "dDsSwWafnrtvx"
_COUNT: Final = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_GROUP: Final = re.compile(r"\((?:\?(?::|P<[A-Za-z_][A-Za-z0-9_]*>|[ims]*(?:-[ims]+)?:)|(?!\?))")
_FLAGS: Final = re.compile(r"\(\?[ims]+\)")
_MISSING: Final = (
    ("(?=", "lookahead"),
    ("(?!", "lookahead"),
    ("(?<", "lookbehind"),
    ("(?P=", "backreferences"),
    ("(?>", "atomic groups"),
    ("(?(", "conditions"),
)


class RegexError(ValueError):
    """A text that is no regular expression for a proxy."""


def expanded(text: str) -> int:
    """Return how long a regular expression is when its counts are written out.

    Raises:
        RegexError: A proxy would not take it, or not mean the same by it.
    """
    size = _Scanner(text).run()
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise RegexError(str(error)) from error
    return size


class _Scanner:
    """Walks over the parts of an expression; whether they fit together is left to `re`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        # The size of each open group, and the largest product of counts inside one another.
        self._open_groups = [(0, 1)]
        self._last = (0, 1)

    def run(self) -> int:
        while self._at < len(self._text):
            self._part(self._text[self._at])
        return sum(size for size, _ in self._open_groups)

    def _part(self, char: str) -> None:
        match char:
            case "\\":
                self._escape(_ESCAPES)
                self._atom(2)
            case "[":
                begin = self._at
                self._class()
                self._atom(self._at - begin)
            case "(":
                self._open()
            case ")":
                self._at += 1
                inner, counts = self._open_groups.pop() if len(self._open_groups) > 1 else (0, 1)
                self._atom(inner + 1, counts)
            case "*" | "+" | "?":
                self._at += 1
                self._greed()
            case "{":
                self._count()
            case _:
                self._at += 1
                self._atom(1)

    def _atom(self, size: int, counts: int = 1) -> None:
        outer, most = self._open_groups[-1]
        self._open_groups[-1] = outer + size, max(most, counts)
        self._last = size, counts

    def _escape(self, letters: str) -> None:
        char = self._text[self._at + 1 : self._at + 2]
        if char.isdigit():
            raise RegexError("proxies know no backreferences")
        if char and (char == "_" or not char.isascii() or (char.isalpha() and char not in letters)):
            raise RegexError(f"proxies know no \\{char} there")
        self._at += 2

    def _class(self) -> None:
        self._at += 2 if self._text.startswith("[^", self._at) else 1
        first = self._at
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "]" and self._at > first:
                break
            if char == "[" or (char in "-&~|" and self._text.startswith(char * 2, self._at)):
                raise RegexError(f"{char} needs a backslash inside [ ]")
            if char == "\\":
                self._escape(_IN_CLASS)
            else:
                self._at += 1
        self._at += 1

    def _open(self) -> None:
        if flags := _FLAGS.match(self._text, self._at):
            self._at = flags.end()
            return
        group = _GROUP.match(self._text, self._at)
        if group is None:
            rest = self._text[self._at : self._at + 4]
            missing = next(
                (words for start, words in _MISSING if rest.startswith(start)), f"groups like {rest}"
            )
            raise RegexError(f"proxies know no {missing}")
        if len(self._open_groups) > _MOST_DEPTH:
            raise RegexError(f"groups are nested deeper than {_MOST_DEPTH} levels")
        self._at = group.end()
        self._open_groups.append((0, 1))

    def _count(self) -> None:
        found = _COUNT.match(self._text, self._at)
        if found is None:
            if re.compile(r"\{,[0-9]*\}").match(self._text, self._at):
                raise RegexError("write {0,N} instead of {,N}")
            self._at += 1
            self._atom(1)
            return
        size, counts = self._last
        times = max(1, *(int(count[:9]) for count in (found[1], found[3]) if count))
        if times * counts > _MOST_COUNT:
            raise RegexError(f"counts above {_MOST_COUNT} are too large, those inside one another multiplied")
        outer, most = self._open_groups[-1]
        self._open_groups[-1] = outer + size * (times - 1), max(most, times * counts)
        self._at = found.end()
        self._greed()

    def _greed(self) -> None:
        if self._text.startswith("+", self._at):
            raise RegexError("proxies know no possessive quantifiers")
        if self._text.startswith("?", self._at):
            self._at += 1

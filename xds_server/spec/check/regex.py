"""Accept only regular expressions that Python and Envoy interpret alike, within the size limits of Envoy.

Envoy uses RE2, which has no lookaround, backreferences or atomic groups, and expands repetition counts.
Syntax that only one of Python and RE2 supports is an error, because a proxy that cannot compile an expression
rejects all new routes.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_EXPANDED", "RegexError", "expanded_length"]

MAX_EXPANDED: Final = 5_000
_MAX_COUNT: Final = 1_000
_MAX_DEPTH: Final = 50
_ESCAPES: Final = "AbBdDsSwWafnrtvx"
_IN_CLASS: Final = "dDsSwWafnrtvx"
_COUNT: Final = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_GROUP: Final = re.compile(r"\((?:\?(?::|P<[A-Za-z_][A-Za-z0-9_]*>|[ims]*(?:-[ims]+)?:)|(?!\?))")
_FLAGS: Final = re.compile(r"\(\?[ims]+\)")
_UNSUPPORTED: Final = (
    ("(?=", "lookaheads"),
    ("(?!", "lookaheads"),
    ("(?<=", "lookbehinds"),
    ("(?<!", "lookbehinds"),
    ("(?<", "named groups written (?<NAME>…) instead of (?P<NAME>…)"),
    ("(?P<", "(?P<NAME>…) groups whose NAME is not an ASCII identifier"),
    ("(?P=", "backreferences"),
    ("(?>", "atomic groups"),
    ("(?(", "conditional groups"),
)


class RegexError(ValueError):
    """A text that is not a valid regular expression for Envoy."""


def expanded_length(text: str) -> int:
    """Return the length of a regular expression after the expansion of its repetition counts.

    Raises:
        RegexError: Envoy would reject the expression or interpret it differently.
    """
    size = _Scanner(text).run()
    try:
        re.compile(text)
    except RecursionError as error:
        raise RegexError("it is nested too deeply") from error
    except (re.error, OverflowError) as error:
        raise RegexError(str(error)) from error
    return size


class _Scanner:
    """Scan the elements of an expression. `re` checks the overall syntax."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        # For each open group: its size, and the largest product of the nested repetition counts in it.
        self._open_groups = [(0, 1)]
        self._last = (0, 1)

    def run(self) -> int:
        while self._at < len(self._text):
            self._element(self._text[self._at])
        return sum(size for size, _ in self._open_groups)

    def _element(self, char: str) -> None:
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
                self._quantifier_suffix()
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
            raise RegexError(f"backreferences and octal escapes such as \\{char} are not supported")
        if char and (char == "_" or not char.isascii() or (char.isalpha() and char not in letters)):
            where = " inside [ ]" if letters == _IN_CLASS else ""
            raise RegexError(f"the escape \\{char} is not supported{where}")
        self._at += 2

    def _class(self) -> None:
        self._at += 2 if self._text.startswith("[^", self._at) else 1
        first = self._at
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "]" and self._at > first:
                break
            if char == "[" or (char in "-&~|" and self._text.startswith(char * 2, self._at)):
                raise RegexError(f"{char if char == '[' else char * 2} must be escaped inside [ ]")
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
            unsupported = next(
                (name for start, name in _UNSUPPORTED if rest.startswith(start)), f"groups such as {rest}"
            )
            raise RegexError(f"{unsupported} are not supported")
        if len(self._open_groups) > _MAX_DEPTH:
            raise RegexError(f"groups are nested deeper than {_MAX_DEPTH} levels")
        self._at = group.end()
        self._open_groups.append((0, 1))

    def _count(self) -> None:
        match = _COUNT.match(self._text, self._at)
        if match is None:
            if re.compile(r"\{,[0-9]*\}").match(self._text, self._at):
                raise RegexError("use {0,N} instead of {,N}")
            self._at += 1
            self._atom(1)
            return
        size, counts = self._last
        times = max(1, *(int(count[:9]) for count in (match[1], match[3]) if count))
        if times * counts > _MAX_COUNT:
            raise RegexError(
                f"a repetition count, multiplied by the counts inside its group, must not exceed {_MAX_COUNT}"
            )
        outer, most = self._open_groups[-1]
        self._open_groups[-1] = outer + size * (times - 1), max(most, times * counts)
        self._at = match.end()
        self._quantifier_suffix()

    def _quantifier_suffix(self) -> None:
        if self._text.startswith("+", self._at):
            raise RegexError("possessive quantifiers are not supported")
        if self._text.startswith("?", self._at):
            self._at += 1

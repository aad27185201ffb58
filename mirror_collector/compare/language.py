"""Approximate language detection: by script, and for Latin script by stop words.

It is accurate enough to detect a model that answers in another language. It does not identify dialects, and
it returns no language for texts of a few words.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["detect_language"]

_MAX_CHARACTERS: Final = 400
_MIN_VOTES: Final = 3
"""Minimum number of stop words of the detected language."""

_LETTER: Final = re.compile(
    r"(?P<latin>[A-Za-z\u00c0-\u024f])|(?P<cyrillic>[\u0400-\u04ff])|(?P<greek>[\u0370-\u03ff])"
    r"|(?P<arabic>[\u0600-\u06ff])|(?P<hebrew>[\u0590-\u05ff])|(?P<devanagari>[\u0900-\u097f])"
    r"|(?P<kana>[\u3040-\u30ff])|(?P<han>[\u3400-\u9fff])|(?P<hangul>[\uac00-\ud7af])|(?P<thai>[\u0e00-\u0e7f])"
)
_WORD: Final = re.compile(r"[a-z\u00df-\u024f]+")
_STOP_WORDS: Final = {
    "en": "the and of to is in that it for with you are this on be as not have from or by",
    "de": "der die das und ist nicht ein eine zu den mit von sie auf für im es ich dem auch",
    "fr": "le la les et est des une un pour que dans qui pas vous sur avec ce au du il",
    "es": "el los las y es de que en un una para con por se no como más su al lo",
    "it": "il che di e la un una per non sono con del si da gli come più nel è",
    "pt": "o os as e que de um uma para com não em do da por se mais como ao é",
    "nl": "de het een en van is dat niet op te zijn voor met aan je ook maar er",
}
_LANGUAGES_BY_WORD: Final[dict[str, tuple[str, ...]]] = {}
for _name, _words in _STOP_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_BY_WORD[_word] = (*_LANGUAGES_BY_WORD.get(_word, ()), _name)
_LANGUAGES_BY_ASCII_WORD: Final = {
    word.encode(): names for word, names in _LANGUAGES_BY_WORD.items() if word.isascii()
}
_LOWERCASE_TABLE: Final = bytes(
    ord(chr(code).lower()) if chr(code).isascii() and chr(code).isalpha() else 0x20 for code in range(256)
)
"""Maps ASCII letters to lowercase and other bytes to spaces. Splitting the mapped text takes a tenth of the
time that a regex takes."""


def detect_language(text: str) -> str | None:
    """Return a language code (``en``, ``de``, …) or the name of a script; None if undetermined."""
    beginning = text[:_MAX_CHARACTERS]
    if beginning.isascii():
        return _latin(beginning)
    scripts: dict[str, int] = {}
    for match in _LETTER.finditer(beginning):
        name = match.lastgroup or ""
        scripts[name] = scripts.get(name, 0) + 1
    if not scripts:
        return None
    if scripts.get("kana"):
        return "ja"
    most = max(scripts, key=lambda name: scripts[name])
    return _latin(beginning) if most == "latin" else most


def _latin(text: str) -> str | None:
    votes: dict[str, int] = {}
    if text.isascii():
        found = [
            _LANGUAGES_BY_ASCII_WORD[w]
            for w in text.encode().translate(_LOWERCASE_TABLE).split()
            if w in _LANGUAGES_BY_ASCII_WORD
        ]
    else:
        found = [_LANGUAGES_BY_WORD[w] for w in _WORD.findall(text.lower()) if w in _LANGUAGES_BY_WORD]
    for names in found:
        for name in names:
            votes[name] = votes.get(name, 0) + 1
    if not votes:
        return None
    best, *rest = sorted(votes.values(), reverse=True)
    if best < _MIN_VOTES or (rest and rest[0] * 2 > best + 1):
        return None
    return max(votes, key=lambda name: votes[name])

"""Generates the answers of a simulated model from the prompt, without I/O.

Two flavours stand for two versions of one model: their answers to the same prompt share most words and are
never equal. At temperature 0 an answer depends on flavour and prompt alone. Above 0, phrases are drawn at
random, so that two answers of one flavour to the same prompt differ a little, as those of a sampled model do.
The answers are plausible prose around the prompt's own words; they are not meant to be correct.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

__all__ = ["Answer", "Flavour", "Question", "answer", "gibberish", "topics", "varied"]


class Flavour(Enum):
    """Which of the two model versions is simulated."""

    A = "a"
    B = "b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The inputs of an answer: the whole conversation, the text of its last message, and the temperature.

    With ``temperature`` 0 the answer is always the same. ``wants_json`` makes the answer a JSON object.
    """

    conversation: str
    last: str
    temperature: float
    wants_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer as a sequence of tokens; their concatenation is the text."""

    tokens: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.tokens)


# Every slot holds phrasings of one sentence. They share most of their words, because two samples of one
# model, or two versions of it, usually do.
_OPENERS: Final = (
    "The short answer about {a} is that it depends on {b}.",
    "The brief answer on {a} is that it depends on {b}.",
    "In short, the answer about {a} is that it mostly depends on {b}.",
    "To put it simply, the answer about {a} depends on {b}.",
)
_BODIES: Final = (
    (
        "Start with {a}, because the rest follows from it, and write down what you already know.",
        "Start with {a}, because everything else follows from it, and note what you already know.",
        "Begin with {a}, because the rest follows from it, and list what you already know.",
    ),
    (
        "The usual mistake is to treat {b} and {c} as one, although they change for other reasons.",
        "A common mistake is to treat {b} and {c} as the same, although they change for other reasons.",
        "The usual error is to treat {b} and {c} as one, even though they change for other reasons.",
    ),
    (
        "A small example with {c} shows the idea better than a long description does.",
        "A short example with {c} shows the idea better than any long description does.",
        "One small example with {c} explains the idea better than a long description does.",
    ),
    (
        "If {a} is not certain, say so, and give the range in which it is likely to lie.",
        "If {a} is uncertain, say so, and give the range in which it probably lies.",
        "When {a} is not certain, say so, and give a range in which it is likely to lie.",
    ),
    (
        "Keep the steps in order: look at {b}, decide about {a}, then check {c} again.",
        "Keep the steps in this order: look at {b}, decide about {a}, and then check {c} again.",
        "Keep these steps in order: look at {b}, choose {a}, then check {c} once more.",
    ),
    (
        "People who work with {c} every day would add that {a} rarely comes alone.",
        "People who work with {c} daily would add that {a} seldom comes alone.",
        "Those who work with {c} every day would add that {a} rarely stands alone.",
    ),
)
_CLOSINGS: Final = (
    "In the end, {a} matters more than {b}, and a second look at both is worth the time.",
    "In the end, {a} matters more than {b}, and looking at both a second time is worth it.",
    "Finally, {a} matters more than {b}, and a second look at both is well worth the time.",
)

_WORD: Final = re.compile(r"[^\W\d_]{4,24}")
_PIECE: Final = re.compile(r"\s*\S{1,9}")
# Topics are taken from the beginning of the question only: a prompt may be megabytes long.
_TOPIC_CHARACTERS: Final = 2000
_COMMON: Final = frozenset(
    {
        "about",
        "after",
        "again",
        "also",
        "answer",
        "because",
        "been",
        "before",
        "being",
        "between",
        "both",
        "could",
        "does",
        "each",
        "every",
        "explain",
        "from",
        "give",
        "given",
        "have",
        "help",
        "here",
        "into",
        "just",
        "like",
        "make",
        "many",
        "more",
        "most",
        "much",
        "must",
        "only",
        "other",
        "over",
        "please",
        "should",
        "some",
        "such",
        "than",
        "that",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "three",
        "through",
        "under",
        "using",
        "very",
        "want",
        "what",
        "when",
        "where",
        "which",
        "while",
        "will",
        "with",
        "without",
        "word",
        "words",
        "would",
        "write",
        "your",
    }
)
_FALLBACK: Final = ("the question", "the goal", "the details")
_DRAWN: Final = tuple(f"word{number}" for number in range(400))
_CONSONANTS: Final = "bcdfghjklmnpqrstvwxz"
_VOWELS: Final = "aeiouy"


def answer(question: Question, flavour: Flavour, rng: random.Random) -> Answer:
    """Return the answer of one flavour; ``rng`` is used only when the temperature is above 0."""
    digest = hashlib.blake2b(question.conversation.encode("utf-8", "replace"), digest_size=16).digest()
    a, b, c = topics(question.last)
    bodies = _chosen_bodies(digest)
    slots = (_OPENERS, *bodies, _CLOSINGS)
    sentences = [
        _phrase(slot, place, digest, flavour, question.temperature, rng).format(a=a, b=b, c=c)
        for place, slot in enumerate(slots)
    ]
    if question.wants_json:
        text = json.dumps({"summary": sentences[0], "points": sentences[1:], "topic": a}, ensure_ascii=False)
    else:
        text = " ".join(sentences)
    return Answer(tokens=tuple(_PIECE.findall(text)))


def varied(original: Answer, rng: random.Random, *, resample: float, alter: float) -> Answer:
    """Return the answer with some words replaced, as another model would give it.

    The share ``resample`` of the words is replaced at random, so differently each time. Of the remaining
    words, the share ``alter`` is always replaced, and always in the same way.
    """
    tokens = []
    for token in original.tokens:
        word = token.lstrip()
        space = token[: len(token) - len(word)]
        draw = rng.random()
        if draw < resample:
            tokens.append(space + rng.choice(_DRAWN))
        elif alter and int(hashlib.blake2b(word.encode(), digest_size=2).hexdigest(), 16) < alter * (1 << 16):
            tokens.append(f"{space}{word}ish")
        else:
            tokens.append(token)
    return Answer(tokens=tuple(tokens))


def gibberish(rng: random.Random, *, words: int = 40) -> Answer:
    """Return random letter sequences, as a model with broken weights generates them."""
    pieces: list[str] = []
    for place in range(words):
        letters = "".join(
            rng.choice(_VOWELS if index % 3 == 1 else _CONSONANTS) for index in range(rng.randint(2, 8))
        )
        pieces.append(letters if place == 0 else f" {letters}")
    return Answer(tokens=tuple(pieces))


def topics(text: str) -> tuple[str, str, str]:
    """Return three different topics of a question: its longest words that are not common ones."""
    words = {
        word.lower(): None for word in _WORD.findall(text[:_TOPIC_CHARACTERS]) if word.lower() not in _COMMON
    }
    longest = sorted(words, key=lambda word: (-len(word), word))[:3]
    a, b, c = (*longest, *_FALLBACK)[:3]
    return a, b, c


def _chosen_bodies(digest: bytes) -> tuple[tuple[str, ...], ...]:
    """Return two to four slots, chosen and ordered by the prompt's hash, so that lengths vary."""
    start, count, stride = digest[0] % len(_BODIES), 2 + digest[1] % 3, 1 if digest[2] % 2 else 5
    return tuple(_BODIES[(start + stride * place) % len(_BODIES)] for place in range(count))


def _phrase(
    slot: tuple[str, ...], place: int, digest: bytes, flavour: Flavour, temperature: float, rng: random.Random
) -> str:
    """Return one phrasing of a slot, chosen by the prompt's hash and the flavour, or at random."""
    index = digest[3 + place]
    if flavour is Flavour.B and (place == 0 or digest[9 + place % 7] % 4 == 0):
        index += 1
    # The opener is never drawn at random: the answers of the two flavours must differ even when sampled.
    if place > 0 and temperature > 0 and rng.random() < min(0.8, 0.35 * temperature):
        index = rng.randrange(len(slot))
    return slot[index % len(slot)]

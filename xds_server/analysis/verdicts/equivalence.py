"""Do two backends answer alike? A verdict on shadow answers from counts of signs, valid at every look (pure).

If both backends are the same model, the shadow's answer and a second answer of the stable backend could
change places: which of them is nearer to what the user got is a fair coin, for any prompt, any sampling, any
measure. Evidence against that is a bet on all other coins at once; it stays below 1/alpha with chance 1-alpha
however often one looks, and depends on counts alone, so that blocks of time and collectors add up.

`Equivalent` is the reverse: proof, measure by measure, that the candidate is not less alike by more than a
margin. Silence proves nothing: without enough pairs the verdict is `Inconclusive`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import exp, inf, lgamma, log, log1p
from typing import TYPE_CHECKING, Final

from scipy.special import betainc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ComparisonCounts", "Equivalence", "EquivalenceResult", "MeasureResult", "PairCounts", "likeness"]


class Equivalence(Enum):
    """What is known of how alike two backends answer."""

    EQUIVALENT = "Equivalent"
    DIFFERENT = "Different"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonCounts:
    """How often the candidate was less alike (or alone in a trait), more, or neither."""

    less: int = 0
    more: int = 0
    same: int = 0

    @property
    def n(self) -> int:
        """All of them."""
        return self.less + self.more + self.same


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCounts:
    """What collectors counted of two backends' pairs; `trios` have a second answer of the stable one."""

    pairs: int = 0
    client_left: int = 0
    limited: int = 0
    counted: int = 0
    trios: int = 0
    repeated: int = 0
    signs: Mapping[str, ComparisonCounts] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def sum(cls, parts: Iterable[PairCounts]) -> PairCounts:
        """Return all of them together."""
        numbers = dict.fromkeys(_NUMBERS, 0)
        signs: dict[str, list[int]] = {}
        tokens: dict[str, int] = {}
        for part in parts:
            for name in _NUMBERS:
                numbers[name] += getattr(part, name)
            for name, one in part.signs.items():
                known = signs.setdefault(name, [0, 0, 0])
                known[0] += one.less
                known[1] += one.more
                known[2] += one.same
            for role, count in part.tokens.items():
                tokens[role] = tokens.get(role, 0) + count
        return cls(
            **numbers,
            signs={name: ComparisonCounts(less=a, more=b, same=c) for name, (a, b, c) in signs.items()},
            tokens=tokens,
        )


_NUMBERS: Final = ("pairs", "client_left", "limited", "counted", "trios", "repeated")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """How a measure is judged. Its share of alpha, and by how much at most the candidate may differ."""

    alpha: float
    margin: float
    floor: bool = False
    """Whether it takes a second answer of the stable backend."""

    worse_only: bool = False
    """Whether it is no difference worth a word if the candidate does better."""

    less: str
    more: str


_ALPHA: Final = 0.05
_MEASURES: Final = {
    # Half of alpha on the text, where almost every difference shows; the rest is shared evenly.
    "rouge_l": _Measure(
        alpha=0.5,
        margin=0.2,
        floor=True,
        less="its texts differ more from users' answers than the stable backend's own",
        more="its texts vary less than the stable backend's own",
    ),
    "finish_reason": _Measure(
        alpha=0.05, margin=0.1, floor=True, less="it ends for other reasons", more="its ends vary less"
    ),
    "tool_calls": _Measure(
        alpha=0.05, margin=0.1, floor=True, less="it calls other tools", more="its tool calls vary less"
    ),
    "language": _Measure(
        alpha=0.05, margin=0.1, floor=True, worse_only=True, less="it answers in other languages", more=""
    ),
    "failed": _Measure(alpha=0.05, margin=0.05, worse_only=True, less="it fails more often", more=""),
    "empty": _Measure(alpha=0.05, margin=0.05, worse_only=True, less="it says nothing more often", more=""),
    "refused": _Measure(alpha=0.05, margin=0.05, less="it refuses more often", more="it refuses less often"),
    "cut": _Measure(alpha=0.05, margin=0.1, less="it is cut off more often", more="it is cut off less often"),
    "invalid_json": _Measure(
        alpha=0.05, margin=0.05, worse_only=True, less="its JSON is broken more often", more=""
    ),
    "invalid_calls": _Measure(
        alpha=0.05, margin=0.05, worse_only=True, less="its tool calls are broken more often", more=""
    ),
    "length": _Measure(
        alpha=0.05, margin=0.25, less="its answers are shorter", more="its answers are longer"
    ),
}
_BETS: Final = tuple(step / 12 for step in range(1, 12))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureResult:
    """What one measure says; `against` and `in_favour` are log e-values as shares of what decides."""

    measure: str
    signs: ComparisonCounts
    likeness: Equivalence
    against: float
    in_favour: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EquivalenceResult:
    """The verdict, the numbers that decided, and in `words` why, or what is missing."""

    likeness: Equivalence
    words: str
    counts: PairCounts
    opinions: tuple[MeasureResult, ...] = ()


def likeness(counts: PairCounts, *, alpha: float = _ALPHA) -> EquivalenceResult:
    """Judge the counts of all pairs so far.

    Args: counts: of all collectors, since the shadow began. alpha: the chance to call equal backends
    different, at any of all looks; that of calling different ones equivalent is the same.
    """
    opinions = tuple(
        _opinion(name, measure, counts, alpha)
        for name, measure in _MEASURES.items()
        if _applies(counts, name)
    )
    different = [one for one in opinions if one.likeness is Equivalence.DIFFERENT]
    if different:
        words = "; ".join(_told(one) for one in sorted(different, key=lambda one: -one.against))
        return EquivalenceResult(
            likeness=Equivalence.DIFFERENT, words=words, counts=counts, opinions=opinions
        )
    missing = _missing(counts, opinions)
    found = Equivalence.INCONCLUSIVE if missing else Equivalence.EQUIVALENT
    words = missing or (
        f"{counts.trios:,} pairs with a noise baseline and {counts.counted:,} in all: "
        "no measure differs by more than its margin"
    )
    return EquivalenceResult(likeness=found, words=words, counts=counts, opinions=opinions)


def _applies(counts: PairCounts, name: str) -> bool:
    signs = counts.signs.get(name)
    return signs is not None and signs.n > 0


def _opinion(name: str, measure: _Measure, counts: PairCounts, alpha: float) -> MeasureResult:
    signs = counts.signs[name]
    needed = -log(alpha * measure.alpha)
    against = _against(signs, one_sided=measure.worse_only)
    favour = _not_beyond(signs.more, signs.same, signs.less, measure.margin)
    if not measure.worse_only:
        favour = min(favour, _not_beyond(signs.less, signs.same, signs.more, measure.margin))
    found = Equivalence.INCONCLUSIVE
    if against >= needed:
        found = Equivalence.DIFFERENT
    elif favour >= -log(alpha):
        found = Equivalence.EQUIVALENT
    return MeasureResult(
        measure=name,
        signs=signs,
        likeness=found,
        against=max(0.0, against / needed),
        in_favour=max(0.0, favour / -log(alpha)),
        words=measure.less if signs.less >= signs.more else measure.more,
    )


def _told(one: MeasureResult) -> str:
    return f"{one.words} ({one.measure}: {one.signs.less:,} to {one.signs.more:,})"


def _missing(counts: PairCounts, opinions: tuple[MeasureResult, ...]) -> str:
    """Say what it takes to call them equivalent; nothing when there is enough."""
    if not counts.counted:
        return "no pair of answers was compared yet"
    if not counts.trios:
        return (
            "nothing differs so far, but without a noise baseline nobody can tell whether texts are alike "
            "(shadow.compare.noiseBaseline)"
        )
    open_ones = [one for one in opinions if one.likeness is Equivalence.INCONCLUSIVE]
    if not open_ones:
        return ""
    slowest = min(open_ones, key=lambda one: one.in_favour)
    more = ""
    if slowest.in_favour > 0:
        more = (
            f", some {max(1, round(slowest.signs.n * (1 / slowest.in_favour - 1))):,} pairs more at this rate"
        )
    names = ", ".join(one.measure for one in open_ones)
    return f"not enough pairs yet to exclude a difference in {names}{more}"


def _against(signs: ComparisonCounts, *, one_sided: bool) -> float:
    """Return the logarithm of the evidence that the coin is not fair, all other coins betted on evenly."""
    less, more = signs.less, signs.more
    n = less + more
    even = lgamma(1 + less) + lgamma(1 + more) - lgamma(2 + n) + n * log(2)
    if not one_sided:
        return even
    beyond = float(betainc(1 + more, 1 + less, 0.5))
    return even + log(2 * beyond) if beyond > 0 else -inf


def _not_beyond(for_it: int, neither: int, against: int, margin: float) -> float:
    """Return the logarithm of the evidence that `against` exceeds `for_it` by less than `margin` of all.

    Each pair scores 0, ½ or 1; the mean that is bet against is ½ + margin/2.
    """
    bound = (1 + margin) / 2
    bets = []
    for share in _BETS:
        bet = share / (1 - bound)
        low = log1p(-share)
        bets.append(
            for_it * log1p(bet * bound)
            + neither * log1p(bet * (bound - 0.5))
            + (against * low if against else 0.0)
        )
    top = max(bets)
    return top + log(sum(exp(value - top) for value in bets) / len(bets))

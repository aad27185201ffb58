"""The measures of the equivalence test, and the evidence in the counts of one measure (pure).

A margin has two parts: a constant share of the pairs to which the measure applies, and a share of how often
the stable backend's own answers differ. The constant part alone bounds the difference where the stable
backend does not vary, such as in tool calls without sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, lgamma, log, log1p
from typing import TYPE_CHECKING, Final

from scipy.special import betainc

if TYPE_CHECKING:
    from xds_server.analysis.verdicts.pair_counts import ComparisonCounts

__all__ = ["API_SHARES", "MEASURES", "Measure", "api_share", "evidence_of_difference", "evidence_within"]

_RARE: Final = 0.01
_OF_OWN: Final = 1 / 3
_OF_TEXT: Final = 0.44
_OF_OTHER: Final = (1 - _OF_TEXT) / 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """The parameters of one measure: its share of alpha, its margin, and how to describe a difference.

    In each pair, the candidate is less or more similar to the user's answer than the stable backend's second
    answer, or equally similar. Two backends are equivalent if the pairs in which it is less similar exceed
    those in which it is more similar by at most `margin` of all pairs plus `of_own` of the latter. The texts
    `less` and `more` describe a candidate that is less or more similar.
    """

    alpha: float
    margin: float
    of_own: float = 0.0
    worse_only: bool = False
    """Whether only a worse candidate counts as different."""

    needs_baseline: bool = False
    less: str
    more: str = ""


def _describe_content(what: str) -> tuple[str, str]:
    """Return texts for a candidate whose `what`, such as rankings, are less similar and more similar."""
    return (
        f"the candidate's {what} differ more from users' answers than the stable backend's second answers do",
        f"the candidate's {what} vary less than the stable backend's",
    )


def _text(what: str, *, alpha: float = _OF_OTHER, margin: float = 0.2) -> Measure:
    """Return a measure of content: the result of each pair is a fair coin if the backends are equal."""
    less, more = _describe_content(what)
    return Measure(alpha=alpha, margin=margin, needs_baseline=True, less=less, more=more)


def _rate(less: str, more: str = "", *, margin: float = _RARE, needs_baseline: bool = False) -> Measure:
    """Return a measure of how often something occurs in answers or differs between them.

    `less` and `more` describe the two directions of a difference. Without `more`, the test is one-sided: only
    a worse candidate counts as different.
    """
    return Measure(
        alpha=_OF_OTHER,
        margin=margin,
        of_own=_OF_OWN,
        worse_only=not more,
        needs_baseline=needs_baseline,
        less=less,
        more=more,
    )


MEASURES: Final = {
    # Nearly half of alpha goes to the text, where almost every difference shows; the others share the rest.
    "rouge_l": _text("texts", alpha=_OF_TEXT),
    "vector": _text("embedding vectors"),
    "ranking": _text("rankings"),
    "top_result": _text("top-ranked documents"),
    "scores": _text("relevance scores"),
    "transcript": _text("transcripts"),
    "document": _text("documents"),
    "finish_reason": _rate(
        *_describe_content("finish reasons"),
        margin=0.05,
        needs_baseline=True,
    ),
    "tool_calls": _rate(*_describe_content("tool calls"), needs_baseline=True),
    "language": _rate(
        "the candidate's answers are more often in another language than the user's answer, compared with "
        "the stable backend's second answers",
        margin=0.05,
        needs_baseline=True,
    ),
    "failed": _rate("the candidate fails more often"),
    "unreadable": _rate("the candidate's answers are unreadable more often"),
    "empty": _rate("the candidate's answers are empty more often"),
    "refused": _rate("the candidate refuses more often", "the candidate refuses less often"),
    "cut": _rate(
        "the candidate's answers are cut off more often",
        "the candidate's answers are cut off less often",
        margin=0.05,
    ),
    "invalid_json": _rate("the candidate's JSON is invalid more often"),
    "invalid_calls": _rate("the candidate's tool calls are invalid more often"),
    "length": Measure(
        alpha=_OF_OTHER,
        margin=0.25,
        less="the candidate's answers are shorter",
        more="the candidate's answers are longer",
    ),
}

API_SHARES: Final = {
    "chat": 0.3,
    "completions": 0.1,
    "responses": 0.15,
    "messages": 0.15,
    **dict.fromkeys(("embeddings", "rerank", "score", "transcription", "speech", "images"), 0.03),
    **dict.fromkeys(("moderations", "models", "other"), 0.03),
}
"""Each API's share of alpha. It is fixed in advance and does not depend on the traffic."""

_SHARE_OF_UNLISTED: Final = 0.003
"""The share of each API that is not listed; newer collectors report such APIs. `API_SHARES` leaves 0.03."""


def api_share(api: str, *, alone: bool) -> float:
    """Return an API's share of alpha; `alone` is whether the collectors report no APIs."""
    return 1.0 if alone else API_SHARES.get(api, _SHARE_OF_UNLISTED)


def evidence_of_difference(outcomes: ComparisonCounts, *, one_sided: bool) -> float:
    """Return the log evidence against a fair coin; if `one_sided`, only less similar answers count."""
    less, more = outcomes.less, outcomes.more
    n = less + more
    even = lgamma(1 + less) + lgamma(1 + more) - lgamma(2 + n) + n * log(2)
    if not one_sided:
        return even
    beyond = float(betainc(1 + more, 1 + less, 0.5))
    return even + log(2 * beyond) if beyond > 0 else -inf


_EVEN_BETS: Final = tuple((step / 12, 1 / 11) for step in range(1, 12))
_RARE_BETS: Final = ((0.99, 0.4), *((share, 0.12) for share in (0.04, 0.08, 0.15, 0.3, 0.6)))
"""Shares of the largest possible bet with their weights. A small margin is proven soonest by a large bet if
the backends never differ, and only by small bets if the stable backend's own answers differ often."""

_SMALL_MARGIN: Final = 0.05


def evidence_within(better: int, equal: int, worse: int, measure: Measure) -> float:
    """Return the log evidence that `worse` exceeds `better` by less than the margin of a measure.

    Each pair scores -(1 + of_own) (better), 0 or 1 (worse); the bet is against a mean score of at least the
    margin, and is the weighted mean of several bets.
    """
    margin, gain = measure.margin, 1 + measure.of_own
    logs = []
    for share, weight in _RARE_BETS if margin < _SMALL_MARGIN else _EVEN_BETS:
        bet = share / (1 - margin)
        logs.append(
            log(weight)
            + better * log1p(bet * (gain + margin))
            + equal * log1p(bet * margin)
            + (worse * log1p(-share) if worse else 0.0)
        )
    highest = max(logs)
    return highest + log(sum(exp(one - highest) for one in logs))

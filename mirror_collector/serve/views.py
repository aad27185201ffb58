"""JSON views of totals and stored pairs, for the API and the pages. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from mirror_collector.compare import (
    AGREEMENT_MEASURES,
    ANSWER_MEASURES,
    MEASURES,
    ComparisonOutcomes,
    Coverage,
    LegTotals,
    Mean,
    PairTotals,
    Proportion,
    confidence_sequence,
)
from mirror_collector.exchange import Role

if TYPE_CHECKING:
    from mirror_collector.compare import CollectorTotals, Histogram
    from mirror_collector.exchange import Reply
    from mirror_collector.store import StoredExperiment, StoredFeedback, StoredLeg, StoredPair

__all__ = ["experiment_view", "feedback_view", "pair_view", "summary_view"]


def summary_view(totals: CollectorTotals, *, route: str | None = None) -> dict[str, Any]:
    """Return the totals of all routes, or only of `route`.

    Each received leg is counted once: legs = paired + unpaired + waiting.
    """
    routes = [name for name in sorted(totals.routes) if route in (None, name)]
    return {
        "routes": [_route(totals, name) for name in routes],
        "dropped": dict(sorted(totals.drops.items())),
    }


def _route(totals: CollectorTotals, name: str) -> dict[str, Any]:
    route = next(value for route, value in totals.routes.items() if route == name)
    by_variants = {key[1:]: pairs for key, pairs in totals.pairs.items() if key[0] == name}
    all_variants = PairTotals()
    for pairs in by_variants.values():
        all_variants.merge(pairs)
    return {
        "route": name,
        "pairs": route.pairs,
        "paired": route.paired,
        "without_noise": route.without_noise,
        "legs": {role.value: route.legs[role] for role in Role},
        "unpaired": {
            reason.value: n for reason, n in sorted(route.unpaired.items(), key=lambda item: item[0].value)
        },
        "waiting": route.waiting,
        **_comparisons(all_variants),
        "comparisons": [
            {
                "primary_variant": primary,
                "shadow_variant": shadow,
                "pairs": by_variants[primary, shadow].pairs,
                **_comparisons(by_variants[primary, shadow]),
            }
            for primary, shadow in sorted(by_variants)
        ],
    }


def _comparisons(totals: PairTotals) -> dict[str, Any]:
    sides = {"primary": totals.primary, "shadow": totals.shadow}
    agreement = totals.agreement
    return {
        "client_left": totals.client_left,
        "limited": totals.limited,
        "trios": totals.trios,
        "read": sum(coverage.read for coverage in totals.coverage.values()),
        "unread": sum(coverage.unread for coverage in totals.coverage.values()),
        "apis": {api: _coverage(totals.coverage[api]) for api in sorted(totals.coverage)},
        "agreement": {
            "status": _proportion(totals.status),
            "status_class": _proportion(totals.status_class),
            **{
                measure: _agreed(agreement.get(measure))
                for measure in ("exact", "finish_reason", "tool_calls", "language")
            },
        },
        "rouge_l": _mean_view(agreement.get("rouge_l")),
        "length_ratio": _mean_view(totals.length_ratio),
        "measures": {
            measure: _measure(totals, measure)
            for measure in MEASURES
            if measure not in ANSWER_MEASURES or measure in agreement
        },
        "failed": {side: leg.failed for side, leg in sides.items()},
        "latency_ms": {side: _quantiles(leg.total) for side, leg in sides.items()},
        "first_token_ms": {side: _quantiles(leg.first_token) for side, leg in sides.items()},
        "inter_token_ms": {side: _quantiles(leg.inter_token) for side, leg in sides.items()},
        "tokens": _tokens(totals, totals.primary, totals.shadow),
    }


def _coverage(coverage: Coverage) -> dict[str, Any]:
    """Return how many pairs of an API were read, and the unread answers by leg and reason."""
    unread_legs: dict[str, dict[str, int]] = {}
    for (leg, reason), n in sorted(coverage.unread_legs.items()):
        unread_legs.setdefault(leg, {})[reason] = n
    return {
        "pairs": coverage.pairs,
        "read": coverage.read,
        "unread": coverage.unread,
        "unread_legs": unread_legs,
    }


def _measure(totals: PairTotals, measure: str) -> dict[str, Any]:
    """Return the outcomes of a measure, and the means or counts of candidate and baseline."""
    outcomes = totals.outcomes.by_measure.get(measure, ComparisonOutcomes())
    signs: dict[str, Any] = {"less": outcomes.less, "more": outcomes.more, "same": outcomes.same}
    if outcomes.less or outcomes.more:
        low, high = confidence_sequence(outcomes.less, outcomes.more)
        share = outcomes.less / (outcomes.less + outcomes.more)
        signs |= {"share_less": round(share, 4), "low": round(low, 4), "high": round(high, 4)}
    view: dict[str, Any] = {"signs": signs}
    if measure in AGREEMENT_MEASURES:
        view |= {
            "candidate": _interval(totals.agreement.get(measure)),
            "floor": _interval(totals.baseline.get(measure)),
        }
    elif measure in totals.traits:
        primary, shadow, of = totals.traits[measure]
        view |= {"primary": primary, "shadow": shadow, "of": of}
    return view


def _interval(mean: Mean | None) -> dict[str, Any] | None:
    if mean is None or mean.value is None:
        return None
    margin = mean.margin
    return {
        "mean": round(mean.value, 4),
        "margin": None if margin is None else round(margin, 4),
        "of": mean.n,
    }


def _proportion(proportion: Proportion) -> dict[str, int]:
    return {"same": proportion.same, "of": proportion.of}


def _agreed(mean: Mean | None) -> dict[str, int]:
    return {"same": round(mean.total), "of": mean.n} if mean is not None else {"same": 0, "of": 0}


def _mean_view(mean: Mean | None) -> dict[str, Any]:
    return {"mean": _mean(mean.total, mean.n), "of": mean.n} if mean is not None else {"mean": None, "of": 0}


def _mean(total: float, of: int) -> float | None:
    return round(total / of, 4) if of else None


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    values = {"p50": histogram.quantile(0.5), "p99": histogram.quantile(0.99)}
    return {name: None if value is None else round(value, 3) for name, value in values.items()}


def _tokens(totals: PairTotals, primary: LegTotals, shadow: LegTotals) -> dict[str, Any]:
    return {
        "primary_mean": _mean(primary.tokens, totals.tokens_of),
        "shadow_mean": _mean(shadow.tokens, totals.tokens_of),
        "of": totals.tokens_of,
        "estimated": totals.tokens_estimated > 0,
        "noise_total": totals.noise_tokens,
    }


def feedback_view(feedback: StoredFeedback) -> dict[str, Any]:
    """Return the feedback on the answers of one variant."""
    return {
        "route": feedback.route,
        "metric": feedback.metric,
        "variant": feedback.variant or None,
        "count": feedback.count,
        "mean": round(feedback.total / feedback.count, 4),
        "positive": feedback.positive,
    }


def experiment_view(experiment: StoredExperiment) -> dict[str, Any]:
    """Return the results of one A/B test."""
    return {
        "route": experiment.route,
        "experiment": experiment.experiment,
        "variants": {
            variant: {"units": units, "requests": requests}
            for variant, (units, requests) in experiment.variants.items()
        },
        "users": experiment.users,
        "outcomes": experiment.outcomes,
        "crossovers": experiment.crossovers,
        "without_unit": experiment.without_unit,
    }


def pair_view(pair: StoredPair, *, bodies: bool = True) -> dict[str, Any]:
    """Return a pair with its legs and judgements; without `bodies`, no message texts are included."""
    legs = {role: _leg(leg, bodies=bodies) for role, leg in pair.legs.items()}
    return {**pair.summary, **legs, "judgements": list(pair.judgements)}


def _leg(leg: StoredLeg, *, bodies: bool) -> dict[str, Any]:
    request, response = leg.document["request"], leg.document["response"]
    if not bodies:
        return {**leg.document, "reply": None}
    return {
        **leg.document,
        "request": {**request, **_body(leg.request)},
        "response": {**response, **_body(leg.response)},
        "reply": None if leg.reply is None else {**_reply(leg.reply), **_unread(leg)},
    }


def _body(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    return {"base64": base64.b64encode(data).decode(), "text": text}


def _unread(leg: StoredLeg) -> dict[str, str]:
    """Return the field `unread` with the reason why the answer could not be read; empty if there is none.

    A leg with a status of 400 or above, or without a status, has no answer and therefore no such field.
    """
    status = leg.document["status"]
    if leg.reply is None or leg.reply.unread is None or status is None or status >= 400:
        return {}
    return {"unread": leg.reply.unread.value}


def _reply(reply: Reply) -> dict[str, Any]:
    return {
        "kind": reply.kind.value,
        "streamed": reply.streamed,
        "text": reply.text,
        "reasoning": reply.reasoning,
        "refused": reply.refused,
        "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in reply.tool_calls],
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "content_chunks": reply.content_chunks,
        "mean_logprob": reply.mean_logprob,
        "error": reply.error,
        "whole": reply.whole,
        **({"dimensions": [len(vector) // 4 for vector in reply.vectors]} if reply.vectors else {}),
        **({"scores": reply.scores} if reply.scores else {}),
    }

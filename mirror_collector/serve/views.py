"""Ledger and stored pairs as the JSON people and programs read. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from mirror_collector.compare import (
    AGREEMENT,
    MEASURES,
    LegTally,
    Mean,
    PairTally,
    Share,
    Signs,
    always_valid,
)
from mirror_collector.exchange import Role

if TYPE_CHECKING:
    from mirror_collector.compare import Histogram, Ledger
    from mirror_collector.exchange import Reply
    from mirror_collector.store import StoredExperiment, StoredFeedback, StoredLeg, StoredPair

__all__ = ["experiment_view", "feedback_view", "pair_view", "summary_view"]


def summary_view(ledger: Ledger, *, route: str | None = None) -> dict[str, Any]:
    """Everything the ledger says, by route; only `route` where one is named.

    Legs are counted once each: legs = paired + unpaired + waiting.
    """
    routes = [name for name in sorted(ledger.routes) if route in (None, name)]
    return {
        "routes": [_route(ledger, name) for name in routes],
        "dropped": dict(sorted(ledger.drops.items())),
    }


def _route(ledger: Ledger, name: str) -> dict[str, Any]:
    tally = next(value for route, value in ledger.routes.items() if route == name)
    by_variants = {key[1:]: found for key, found in ledger.pairs.items() if key[0] == name}
    total = PairTally()
    for found in by_variants.values():
        total.merge(found)
    return {
        "route": name,
        "pairs": tally.pairs,
        "paired": tally.paired,
        "without_noise": tally.without_noise,
        "legs": {role.value: tally.legs[role] for role in Role},
        "unpaired": {
            reason.value: n for reason, n in sorted(tally.unpaired.items(), key=lambda i: i[0].value)
        },
        "waiting": tally.unaccounted,
        **_findings(total),
        "comparisons": [
            {
                "primary_variant": primary,
                "shadow_variant": shadow,
                "pairs": by_variants[primary, shadow].pairs,
                **_findings(by_variants[primary, shadow]),
            }
            for primary, shadow in sorted(by_variants)
        ],
    }


def _findings(found: PairTally) -> dict[str, Any]:
    sides = {"primary": found.primary, "shadow": found.shadow}
    like = found.like
    return {
        "client_left": found.client_left,
        "limited": found.limited,
        "trios": found.trios,
        "agreement": {
            "status": _share(found.status),
            "status_class": _share(found.status_class),
            **{
                name: _agreed(like.get(name)) for name in ("exact", "finish_reason", "tool_calls", "language")
            },
        },
        "rouge_l": _mean_of(like.get("rouge_l")),
        "length_ratio": _mean_of(found.length_ratio),
        "measures": {name: _measure(found, name) for name in MEASURES},
        "failed": {side: leg.failed for side, leg in sides.items()},
        "latency_ms": {side: _quantiles(leg.total) for side, leg in sides.items()},
        "first_token_ms": {side: _quantiles(leg.first_token) for side, leg in sides.items()},
        "inter_token_ms": {side: _quantiles(leg.inter_token) for side, leg in sides.items()},
        "tokens": _tokens(found, found.primary, found.shadow),
    }


def _measure(found: PairTally, name: str) -> dict[str, Any]:
    """One measure: how it is with the candidate, how it is by itself, and how often which was more alike."""
    signs = found.signs.by_measure.get(name, Signs())
    view: dict[str, Any] = {"signs": {"less": signs.less, "more": signs.more, "same": signs.same}}
    if signs.less or signs.more:
        low, high = always_valid(signs.less, signs.more)
        share = signs.less / (signs.less + signs.more)
        view["signs"] |= {"share_less": round(share, 4), "low": round(low, 4), "high": round(high, 4)}
    if name in AGREEMENT:
        view |= {"candidate": _interval(found.like.get(name)), "floor": _interval(found.floor.get(name))}
    elif name in found.traits:
        primary, shadow, of = found.traits[name]
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


def _share(share: Share) -> dict[str, int]:
    return {"same": share.same, "of": share.of}


def _agreed(mean: Mean | None) -> dict[str, int]:
    return {"same": round(mean.total), "of": mean.n} if mean is not None else {"same": 0, "of": 0}


def _mean_of(mean: Mean | None) -> dict[str, Any]:
    return {"mean": _mean(mean.total, mean.n), "of": mean.n} if mean is not None else {"mean": None, "of": 0}


def _mean(total: float, of: int) -> float | None:
    return round(total / of, 4) if of else None


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    values = {"p50": histogram.quantile(0.5), "p99": histogram.quantile(0.99)}
    return {name: None if value is None else round(value, 3) for name, value in values.items()}


def _tokens(found: PairTally, primary: LegTally, shadow: LegTally) -> dict[str, Any]:
    return {
        "primary_mean": _mean(primary.tokens, found.tokens_of),
        "shadow_mean": _mean(shadow.tokens, found.tokens_of),
        "of": found.tokens_of,
        "estimated": found.tokens_estimated > 0,
        "noise_total": found.noise_tokens,
    }


def feedback_view(found: StoredFeedback) -> dict[str, Any]:
    """What was said of the answers of one variant."""
    return {
        "route": found.route,
        "metric": found.metric,
        "variant": found.variant or None,
        "count": found.count,
        "mean": round(found.total / found.count, 4),
        "positive": found.positive,
    }


def experiment_view(found: StoredExperiment) -> dict[str, Any]:
    """One A/B test."""
    return {
        "route": found.route,
        "experiment": found.experiment,
        "variants": {
            variant: {"units": units, "requests": requests}
            for variant, (units, requests) in found.variants.items()
        },
        "users": found.users,
        "outcomes": found.outcomes,
        "crossovers": found.crossovers,
        "without_unit": found.without_unit,
    }


def pair_view(pair: StoredPair, *, bodies: bool = True) -> dict[str, Any]:
    """One pair with everything that is known of it; without `bodies` nothing of what was said."""
    legs = {role: _leg(leg, bodies=bodies) for role, leg in pair.legs.items()}
    return {**pair.listed, **legs, "judgements": list(pair.judgements)}


def _leg(leg: StoredLeg, *, bodies: bool) -> dict[str, Any]:
    request, response = leg.document["request"], leg.document["response"]
    if not bodies:
        return {**leg.document, "reply": None}
    return {
        **leg.document,
        "request": {**request, **_body(leg.request)},
        "response": {**response, **_body(leg.response)},
        "reply": None if leg.reply is None else _reply(leg.reply),
    }


def _body(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    return {"base64": base64.b64encode(data).decode(), "text": text}


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
    }

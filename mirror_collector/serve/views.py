"""Ledger and stored pairs as the JSON people and programs read. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from mirror_collector.compare import LegTally, PairTally, Share
from mirror_collector.exchange import Body, Role, read_reply

if TYPE_CHECKING:
    from mirror_collector.compare import Histogram, Ledger
    from mirror_collector.store import StoredExperiment, StoredLeg, StoredPair

__all__ = ["pair_view", "summary_view"]


def summary_view(ledger: Ledger, *, route: str | None = None) -> dict[str, Any]:
    """Everything the ledger says, by route; only `route` where one is named.

    Legs are counted once each: legs = 2 · pairs + unpaired + waiting.
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
    return {
        "client_left": found.client_left,
        "agreement": {
            "status": _share(found.status),
            "status_class": _share(found.status_class),
            "exact": _share(found.exact),
            "finish_reason": _share(found.finish_reason),
            "tool_calls": _share(found.tool_calls),
        },
        "rouge_l": {"mean": _mean(found.rouge_l_sum, found.rouge_l_of), "of": found.rouge_l_of},
        "length_ratio": {
            "mean": _mean(found.length_ratio_sum, found.length_ratio_of),
            "of": found.length_ratio_of,
        },
        "failed": {side: leg.failed for side, leg in sides.items()},
        "latency_ms": {side: _quantiles(leg.total) for side, leg in sides.items()},
        "first_token_ms": {side: _quantiles(leg.first_token) for side, leg in sides.items()},
        "tokens": _tokens(found, found.primary, found.shadow),
    }


def _share(share: Share) -> dict[str, int]:
    return {"same": share.same, "of": share.of}


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


def pair_view(pair: StoredPair) -> dict[str, Any]:
    """One pair with everything that is known of it, bodies included."""
    return {**pair.listed, **{role: _leg(leg) for role, leg in pair.legs.items()}}


def _leg(leg: StoredLeg) -> dict[str, Any]:
    request, response = leg.document["request"], leg.document["response"]
    return {
        **leg.document,
        "request": {**request, **_body(leg.request)},
        "response": {**response, **_body(leg.response)},
        "reply": _reply(
            Body(
                data=leg.response,
                total=response["bytes_total"],
                content_type=response["content_type"],
                content_encoding=response["content_encoding"],
            )
        ),
    }


def _body(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    return {"base64": base64.b64encode(data).decode(), "text": text}


def _reply(body: Body) -> dict[str, Any]:
    reply = read_reply(body)
    return {
        "kind": reply.kind.value,
        "streamed": reply.streamed,
        "text": reply.text,
        "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in reply.tool_calls],
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "content_chunks": reply.content_chunks,
        "error": reply.error,
        "whole": reply.whole,
    }

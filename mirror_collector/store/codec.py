"""Pairs and comparisons as JSON, the form in which they are stored and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirror_collector.compare import Comparison, Measures
    from mirror_collector.exchange import Body, Leg, Pair

__all__ = ["leg_document", "summary_document"]


def summary_document(pair: Pair, found: Comparison) -> dict[str, Any]:
    """What a list of pairs shows of one."""
    primary = pair.primary
    return {
        "route": primary.route,
        "request_id": primary.request_id,
        "method": primary.method,
        "path": primary.path,
        "primary_variant": primary.variant,
        "shadow_variant": pair.shadow.variant,
        "comparison": _comparison(found),
    }


def leg_document(leg: Leg) -> dict[str, Any]:
    """Everything about a leg but the bytes of its bodies; times in seconds since the epoch."""
    return {
        "role": leg.role.value,
        "variant": leg.variant,
        "node": leg.node,
        "started_at": _seconds(leg.started_us),
        "request_ended_at": _seconds(leg.request_ended_us),
        "headers_at": _seconds(leg.headers_us),
        "first_chunk_at": _seconds(leg.first_chunk_us),
        "last_chunk_at": _seconds(leg.last_chunk_us),
        "chunks": leg.chunks,
        "status": leg.status,
        "details": leg.details,
        "complete": leg.complete,
        "client_left": leg.client_left,
        "failure": None if leg.failure is None else leg.failure.value,
        "attempts": leg.attempts,
        "rewrite": leg.rewrite,
        "prompt": leg.prompt,
        "request": _body(leg.request),
        "response": _body(leg.response),
    }


def _body(body: Body) -> dict[str, Any]:
    return {
        "content_type": body.content_type,
        "content_encoding": body.content_encoding,
        "bytes_total": body.total,
        "bytes_kept": len(body.data),
        "truncated": body.capped,
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "version": found.version,
        "client_left": found.client_left,
        "similarity": found.similarity,
        "status_same": found.status_same,
        "status_class_same": found.status_class_same,
        "exact": found.exact,
        "rouge_l": found.rouge_l,
        "finish_reason_same": found.finish_reason_same,
        "tool_calls_same": found.tool_calls_same,
        "length_ratio": found.length_ratio,
        "token_source": found.token_source.value,
        "primary": _measures(found.primary),
        "shadow": _measures(found.shadow),
    }


def _measures(measures: Measures) -> dict[str, Any]:
    return {
        "kind": measures.kind.value,
        "status": measures.status,
        "failure": measures.failure,
        "succeeded": measures.succeeded,
        "first_token_ms": measures.first_token_ms,
        "total_ms": measures.total_ms,
        "tokens": measures.tokens,
        "characters": measures.characters,
        "finish_reason": measures.finish_reason,
    }


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else micros / 1e6

"""Conversion of pairs to OpenTelemetry spans, one trace per request, and to Langfuse scores. Pure.

Attributes follow the OpenTelemetry semantic conventions for generative AI; attributes that the conventions
do not define have the prefix ``shiftplane.``. Trace ids are derived from route and request id, so that
sending a pair twice results in the same trace.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirror_collector.compare import Comparison, LegMeasures, Replies
    from mirror_collector.exchange import Leg, Pair, Reply

__all__ = ["export_batch", "export_request", "scores_of", "spans_of", "trace_id"]

_SPAN_KIND_CLIENT: Final = 3
_STATUS_OK: Final = 1
_STATUS_ERROR: Final = 2
_MAX_CHARACTERS: Final = 8_000
_OPERATIONS: Final = {"chat": "chat", "completion": "text_completion", "embeddings": "embeddings"}


def trace_id(pair: Pair) -> str:
    """Return the id of a pair's trace, 32 hexadecimal digits."""
    return _digest(pair.primary.route, pair.primary.request_id, size=16)


def spans_of(pair: Pair, replies: Replies, comparison: Comparison, *, bodies: bool) -> list[dict[str, Any]]:
    """Return one span per leg; the spans of shadow and noise leg are children of the primary's span.

    Args:
        pair: the legs.
        replies: the redacted replies.
        comparison: the comparison of the pair.
        bodies: whether the spans contain message texts.
    """
    trace, root = trace_id(pair), _span_id(pair, "primary")
    legs = (
        (pair.primary, replies.primary, comparison.primary),
        (pair.shadow, replies.shadow, comparison.shadow),
        (pair.noise, replies.noise, comparison.noise),
    )
    spans = []
    for leg, reply, measures in legs:
        if leg is None or reply is None or measures is None:
            continue
        role = leg.role.value
        span: dict[str, Any] = {
            "traceId": trace,
            "spanId": _span_id(pair, role),
            "name": f"{_OPERATIONS.get(measures.kind, 'chat')} {leg.route}/{leg.variant}",
            "kind": _SPAN_KIND_CLIENT,
            "startTimeUnixNano": str(max(0, leg.started_us) * 1000),
            "endTimeUnixNano": str(max(leg.started_us, leg.last_chunk_us or 0, 0) * 1000),
            "status": {"code": _STATUS_OK if measures.succeeded else _STATUS_ERROR},
            "attributes": [
                {"key": key, "value": _value(value)}
                for key, value in _attributes(leg, reply, measures, comparison, bodies=bodies)
                if value is not None
            ],
        }
        if role != "primary":
            span["parentSpanId"] = root
        spans.append(span)
    return spans


def _attributes(
    leg: Leg, reply: Reply, measures: LegMeasures, comparison: Comparison, *, bodies: bool
) -> Iterator[tuple[str, Any]]:
    yield "gen_ai.operation.name", _OPERATIONS.get(measures.kind, "chat")
    yield "gen_ai.provider.name", "vllm"
    yield "gen_ai.request.model", _model(leg)
    yield "gen_ai.response.finish_reasons", [reply.finish_reason] if reply.finish_reason else None
    yield "gen_ai.usage.input_tokens", reply.prompt_tokens
    yield "gen_ai.usage.output_tokens", measures.tokens_used
    if measures.first_token_ms is not None:
        yield "gen_ai.server.time_to_first_token", measures.first_token_ms / 1000
    yield "http.response.status_code", leg.status
    yield "error.type", None if leg.failure is None else leg.failure.value
    yield "shiftplane.route", leg.route
    yield "shiftplane.variant", leg.variant
    yield "shiftplane.role", leg.role.value
    yield "shiftplane.request_id", leg.request_id
    yield "shiftplane.refused", measures.traits.refused
    agreement = {"shadow": comparison.agreement, "noise": comparison.baseline}.get(leg.role.value)
    if agreement is not None:
        yield "shiftplane.rouge_l", agreement.rouge_l
        yield "shiftplane.exact", agreement.exact
    if bodies:
        messages = [
            {"role": "assistant", "parts": [{"type": "text", "content": reply.text[:_MAX_CHARACTERS]}]}
        ]
        yield "gen_ai.output.messages", orjson.dumps(messages).decode()


def export_request(spans: list[dict[str, Any]], service: str = "mirror-collector") -> dict[str, Any]:
    """Return the body of an OTLP/HTTP request in JSON."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    scoped = {"scope": {"name": "shiftplane.mirror_collector"}, "spans": spans}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scoped]}]}


def export_batch(batch: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the body of an OTLP/HTTP request for the spans of several pairs."""
    return export_request([span for spans in batch for span in spans])


def scores_of(pair: Pair, comparison: Comparison) -> list[dict[str, Any]]:
    """Return the measures of a pair as Langfuse scores; sending a score again replaces the earlier one."""
    trace = trace_id(pair)
    values: dict[str, float | bool | None] = {
        "rouge_l": comparison.agreement.rouge_l,
        "edit": comparison.agreement.edit,
        "exact": comparison.agreement.exact,
        "same_tool_calls": comparison.agreement.tool_calls,
        "same_status": comparison.status_same,
        "refused": comparison.shadow.traits.refused,
        "length_ratio": comparison.length_ratio,
    }
    return [
        {
            "id": f"{trace}-{name}",
            "traceId": trace,
            "name": f"shadow_{name}",
            "value": float(value),
            "dataType": "BOOLEAN" if isinstance(value, bool) else "NUMERIC",
        }
        for name, value in values.items()
        if value is not None
    ]


def _span_id(pair: Pair, role: str) -> str:
    return _digest(pair.primary.route, pair.primary.request_id, role, size=8)


def _digest(*parts: str, size: int) -> str:
    # Each part is prefixed with its length, so that different parts never join to the same text.
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(joined.encode("utf-8", "replace"), digest_size=size).hexdigest()


def _model(leg: Leg) -> str | None:
    try:
        value = orjson.loads(leg.request.data)
    except ValueError:
        return None
    model = value.get("model") if isinstance(value, dict) else None
    return model[:200] if isinstance(model, str) else None


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value)}

"""Conversion of pairs and comparisons to the JSON that is stored and served, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from mirror_collector.compare import AGREEMENT_MEASURES, ANSWER_MEASURES, TRAITS
from mirror_collector.exchange import (
    Body,
    Failure,
    Leg,
    Reply,
    RequestId,
    Role,
    RouteName,
    UnreadReason,
    Variant,
    api_of,
    read_reply,
)
from mirror_collector.store.privacy import MessageStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirror_collector.compare import Agreement, Comparison, LegMeasures
    from mirror_collector.exchange import Pair
    from mirror_collector.store.privacy import RoutePrivacyPolicy

__all__ = [
    "FLAGS",
    "flags_of",
    "leg_document",
    "load_leg",
    "load_reply",
    "stored_messages",
    "summary_document",
]

FLAGS: Final = {
    "failed": 1,
    "empty": 2,
    "refused": 4,
    "cut": 8,
    "invalid_json": 16,
    "invalid_calls": 32,
    "tool_calls": 64,
    "longer": 128,
    "shorter": 256,
    "language": 512,
    "finish_reason": 1024,
    "client_left": 2048,
    "limited": 4096,
    "noise": 8192,
    "different": 16384,
    "unreadable": 32768,
    "unread": 65536,
}
"""Flags of pairs as bits, for filtering: traits of the shadow, differences, and kinds of pairs."""

_LONGER_RATIO: Final = 2.0
_SHORTER_RATIO: Final = 0.5
_RAW: Final = "raw"
_ASSEMBLED: Final = "reply"
_UNREADABLE: Final = "unreadable"
_SAME: Final = "same"
_LOST_BY_DECODING: Final = frozenset({UnreadReason.CORRUPT, UnreadReason.TOO_LARGE})
"""Unread reasons that are stored with the leg: only the decoded beginning of the body is stored, and the
reason cannot be detected in it again."""


def flags_of(comparison: Comparison) -> int:
    """Return the flags of a pair as the sum of their bits in `FLAGS`."""
    agreement, ratio = comparison.agreement, comparison.length_ratio
    names = {name for name in TRAITS if getattr(comparison.shadow.traits, name)}
    if not comparison.is_unread:
        names |= {
            name for name in ("tool_calls", "language", "finish_reason") if getattr(agreement, name) is False
        }
        names |= {"different"} if agreement.exact is False else set()
    names |= {"longer"} if ratio is not None and ratio >= _LONGER_RATIO else set()
    names |= {"shorter"} if ratio is not None and ratio <= _SHORTER_RATIO else set()
    names |= {name for name in ("client_left", "limited") if getattr(comparison, name)}
    names |= {"noise"} if comparison.baseline is not None else set()
    names |= {"unread"} if comparison.is_unread else set()
    return sum(FLAGS[name] for name in names)


def summary_document(pair: Pair, comparison: Comparison) -> dict[str, Any]:
    """Return the JSON of a pair as shown in lists."""
    primary = pair.primary
    return {
        "route": primary.route,
        "request_id": primary.request_id,
        "method": primary.method,
        "path": _path(primary.path),
        "primary_variant": primary.variant,
        "shadow_variant": pair.shadow.variant,
        "comparison": _comparison(comparison),
    }


def leg_document(leg: Leg) -> dict[str, Any]:
    """Return the JSON of a leg without its bodies.

    Times are in seconds since the epoch; only those in ``times`` are in microseconds since the leg's start.
    """
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
        "times": [[at - leg.started_us, size] for at, size in leg.chunk_times],
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


def stored_messages(
    leg: Leg,
    reply: Reply,
    policy: RoutePrivacyPolicy,
    *,
    hash_message: Callable[[bytes], str],
    same_request: bool = False,
) -> tuple[dict[str, Any], bytes, bytes]:
    """Return the stored form of a leg's messages: a description of the form, the request, the response.

    With redaction, an answer is stored assembled and not as it was sent: otherwise, a secret that is split
    across the chunks of a stream could not be detected. With `same_request`, the request equals the primary's
    request and is stored only with the primary.
    """
    storage, redaction = policy.storage, policy.redaction
    if storage is MessageStorage.NONE:
        return {"kept": storage.value}, b"", b""
    if storage is MessageStorage.HASHES:
        text = reply.text.encode() if reply.is_generated else leg.response.data
        hashes = {"request": hash_message(leg.request.data), "response": hash_message(text)}
        return {"kept": storage.value, "hashes": hashes}, b"", b""
    if not redaction:
        request_form = _SAME if same_request else _RAW
        form = {"kept": storage.value, "request": request_form, "response": _RAW, "decoded": False}
        return form, b"" if same_request else leg.request.data, leg.response.data
    request = b"" if same_request else redaction.body(leg.request)
    request_form = _SAME if same_request else _RAW if request is not None else _UNREADABLE
    if reply.is_answer:
        response: bytes | None = orjson.dumps(redaction.reply(reply).to_json())
        response_form = _ASSEMBLED
    else:
        response = redaction.body(leg.response)
        response_form = _RAW if response is not None else _UNREADABLE
    form = {"kept": storage.value, "request": request_form, "response": response_form, "decoded": True}
    if reply.unread in _LOST_BY_DECODING:
        form["unread"] = reply.unread.value
    return form, request or b"", response or b""


def load_leg(document: dict[str, Any], route: str, request_id: str, request: bytes, response: bytes) -> Leg:
    """Return a leg from its stored form; it has the bodies as stored, and an empty method and path."""
    started = _micros(document["started_at"]) or 0
    decoded = bool(document.get("messages", {}).get("decoded"))
    return Leg(
        route=RouteName(route),
        role=Role(document["role"]),
        request_id=RequestId(request_id),
        variant=Variant(document["variant"]),
        method="",
        path="",
        started_us=started,
        request=_stored_body(document["request"], request, decoded=decoded),
        request_ended_us=_micros(document["request_ended_at"]),
        status=document["status"],
        details=document["details"],
        response=_stored_body(document["response"], response, decoded=decoded),
        headers_us=_micros(document["headers_at"]),
        first_chunk_us=_micros(document["first_chunk_at"]),
        last_chunk_us=_micros(document["last_chunk_at"]),
        chunks=document["chunks"],
        complete=document["complete"],
        client_left=document["client_left"],
        failure=None if document["failure"] is None else Failure(document["failure"]),
        attempts=document["attempts"],
        rewrite=document["rewrite"],
        prompt=document["prompt"],
        node=document["node"],
        chunk_times=tuple((started + at, size) for at, size in document.get("times", ())),
    )


def load_reply(document: dict[str, Any], response: bytes, path: str) -> Reply:
    """Return the reply of a stored leg, from an assembled or a raw response.

    Args:
        document: the stored form of the leg.
        response: the stored response.
        path: the path of the request, which decides how a raw response is read.
    """
    messages = document.get("messages", {})
    if messages.get("response") == _ASSEMBLED:
        return Reply.from_json(orjson.loads(response))
    body = _stored_body(document["response"], response, decoded=bool(messages.get("decoded")))
    reply = read_reply(body, api_of(path))
    return replace(reply, unread=UnreadReason(messages["unread"])) if "unread" in messages else reply


def _stored_body(document: dict[str, Any], data: bytes, *, decoded: bool) -> Body:
    return Body(
        data=data,
        total=document["bytes_total"],
        content_type=document["content_type"],
        content_encoding="" if decoded else document["content_encoding"],
        captured=document["bytes_kept"],
    )


def _path(path: str) -> str:
    """Return a path without its query, which can contain API keys."""
    return path.partition("?")[0]


def _body(body: Body) -> dict[str, Any]:
    return {
        "content_type": body.content_type,
        "content_encoding": body.content_encoding,
        "bytes_total": body.total,
        "bytes_kept": len(body.data) if body.captured is None else body.captured,
        "truncated": body.truncated,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    agreement = comparison.agreement
    return {
        "version": comparison.version,
        "api": comparison.api.value,
        "unread": {role.value: reason.value for role, reason in comparison.unread},
        "client_left": comparison.client_left,
        "limited": comparison.limited,
        "similarity": comparison.similarity,
        "status_same": comparison.status_same,
        "status_class_same": comparison.status_class_same,
        "exact": agreement.exact,
        "rouge_l": agreement.rouge_l,
        "edit": agreement.edit,
        "finish_reason_same": agreement.finish_reason,
        "tool_calls_same": agreement.tool_calls,
        "language_same": agreement.language,
        **{name: getattr(agreement, name) for name in ANSWER_MEASURES},
        "floor": None if comparison.baseline is None else _agreement(comparison.baseline),
        "length_ratio": comparison.length_ratio,
        "token_source": comparison.token_source.value,
        "primary": _measures(comparison.primary),
        "shadow": _measures(comparison.shadow),
        "noise": None if comparison.noise is None else _measures(comparison.noise),
    }


def _agreement(agreement: Agreement) -> dict[str, Any]:
    return {name: getattr(agreement, name) for name in AGREEMENT_MEASURES}


def _measures(measures: LegMeasures) -> dict[str, Any]:
    return {
        "kind": measures.kind,
        "status": measures.status,
        "failure": measures.failure,
        "succeeded": measures.succeeded,
        "first_token_ms": measures.first_token_ms,
        "inter_token_ms": measures.inter_token_ms,
        "total_ms": measures.total_ms,
        "tokens": measures.tokens,
        "spent": measures.tokens_used,
        "characters": measures.characters,
        "finish_reason": measures.finish_reason,
        "mean_logprob": measures.mean_logprob,
        "language": measures.traits.language,
        "traits": [name for name in TRAITS if getattr(measures.traits, name)],
    }


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else micros / 1e6


def _micros(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)

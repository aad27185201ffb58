"""Pairs and comparisons as JSON, the form in which they are stored and shown, and back again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from mirror_collector.compare import AGREEMENT, TRAITS
from mirror_collector.exchange import (
    Body,
    Failure,
    Leg,
    Reply,
    RequestId,
    Role,
    RouteName,
    Variant,
    read_reply,
)
from mirror_collector.store.privacy import Keep

if TYPE_CHECKING:
    from mirror_collector.compare import Comparison, Likeness, Measures
    from mirror_collector.exchange import Pair
    from mirror_collector.exchange.redaction import Redaction

__all__ = [
    "FLAGS",
    "flags_of",
    "kept_messages",
    "leg_document",
    "leg_of",
    "reply_of",
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
}
"""What lists of pairs are filtered by, as bits: traits of the shadow, what differs, what a pair is."""

_LONGER: Final = 2.0
_SHORTER: Final = 0.5
_AS_IT_CAME: Final = "raw"
_ASSEMBLED: Final = "reply"
_UNREADABLE: Final = "unreadable"
_SAME: Final = "same"


def flags_of(found: Comparison) -> int:
    """Return the flags of a pair."""
    like, ratio = found.like, found.length_ratio
    names = {name for name in TRAITS if getattr(found.shadow.traits, name)}
    names |= {name for name in ("tool_calls", "language", "finish_reason") if getattr(like, name) is False}
    names |= {"longer"} if ratio is not None and ratio >= _LONGER else set()
    names |= {"shorter"} if ratio is not None and ratio <= _SHORTER else set()
    names |= {name for name in ("client_left", "limited") if getattr(found, name)}
    names |= {"noise"} if found.floor is not None else set()
    names |= {"different"} if like.exact is False else set()
    return sum(FLAGS[name] for name in names)


def summary_document(pair: Pair, found: Comparison) -> dict[str, Any]:
    """What a list of pairs shows of one."""
    primary = pair.primary
    return {
        "route": primary.route,
        "request_id": primary.request_id,
        "method": primary.method,
        "path": _path(primary.path),
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
        "times": [[at - leg.started_us, size] for at, size in leg.times],
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


def kept_messages(
    leg: Leg, reply: Reply, keep: Keep, redaction: Redaction, *, hashed: Any, same: bool = False
) -> tuple[dict[str, Any], bytes, bytes]:
    """Return what is kept of a leg's messages: a note of how, the request, and the answer.

    Where something is taken out, answers that could be read are kept put together, not as they were on the
    wire: a secret cut in two by the chunks of a stream could not be found there. With `same` the request is
    the user's own, and kept there alone.
    """
    if keep is Keep.NONE:
        return {"kept": keep.value}, b"", b""
    if keep is Keep.HASHES:
        said = reply.text.encode() if reply.spoken else leg.response.data
        hashes = {"request": hashed(leg.request.data), "response": hashed(said)}
        return {"kept": keep.value, "hashes": hashes}, b"", b""
    if not redaction:
        asked = _SAME if same else _AS_IT_CAME
        note = {"kept": keep.value, "request": asked, "response": _AS_IT_CAME, "decoded": False}
        return note, b"" if same else leg.request.data, leg.response.data
    request = b"" if same else redaction.body(leg.request)
    asked = _SAME if same else _AS_IT_CAME if request is not None else _UNREADABLE
    if reply.spoken:
        answer: bytes | None = orjson.dumps(redaction.reply(reply).to_json())
        form = _ASSEMBLED
    else:
        answer = redaction.body(leg.response)
        form = _AS_IT_CAME if answer is not None else _UNREADABLE
    note = {"kept": keep.value, "request": asked, "response": form, "decoded": True}
    return note, request or b"", answer or b""


def leg_of(document: dict[str, Any], route: str, request_id: str, request: bytes, response: bytes) -> Leg:
    """Return a leg as it is stored; its bodies hold what was kept of them."""
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
        times=tuple((started + at, size) for at, size in document.get("times", ())),
    )


def reply_of(document: dict[str, Any], response: bytes) -> Reply:
    """Return the answer of a stored leg, whichever way it was kept."""
    messages = document.get("messages", {})
    if messages.get("response") == _ASSEMBLED:
        return Reply.from_json(orjson.loads(response))
    return read_reply(_stored_body(document["response"], response, decoded=bool(messages.get("decoded"))))


def _stored_body(document: dict[str, Any], data: bytes, *, decoded: bool) -> Body:
    return Body(
        data=data,
        total=document["bytes_total"],
        content_type=document["content_type"],
        content_encoding="" if decoded else document["content_encoding"],
        kept=document["bytes_kept"],
    )


def _path(path: str) -> str:
    """Without the query: keys are sent there."""
    return path.partition("?")[0]


def _body(body: Body) -> dict[str, Any]:
    return {
        "content_type": body.content_type,
        "content_encoding": body.content_encoding,
        "bytes_total": body.total,
        "bytes_kept": len(body.data) if body.kept is None else body.kept,
        "truncated": body.capped,
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    like = found.like
    return {
        "version": found.version,
        "client_left": found.client_left,
        "limited": found.limited,
        "similarity": found.similarity,
        "status_same": found.status_same,
        "status_class_same": found.status_class_same,
        "exact": like.exact,
        "rouge_l": like.rouge_l,
        "edit": like.edit,
        "finish_reason_same": like.finish_reason,
        "tool_calls_same": like.tool_calls,
        "language_same": like.language,
        "floor": None if found.floor is None else _likeness(found.floor),
        "length_ratio": found.length_ratio,
        "token_source": found.token_source.value,
        "primary": _measures(found.primary),
        "shadow": _measures(found.shadow),
        "noise": None if found.noise is None else _measures(found.noise),
    }


def _likeness(like: Likeness) -> dict[str, Any]:
    return {name: getattr(like, name) for name in AGREEMENT}


def _measures(measures: Measures) -> dict[str, Any]:
    return {
        "kind": measures.kind,
        "status": measures.status,
        "failure": measures.failure,
        "succeeded": measures.succeeded,
        "first_token_ms": measures.first_token_ms,
        "inter_token_ms": measures.inter_token_ms,
        "total_ms": measures.total_ms,
        "tokens": measures.tokens,
        "spent": measures.spent,
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

"""Parsing of legs from JSON objects, for senders other than Envoy.

Unknown fields are rejected, so that typos are noticed. Bodies are text (``body``) or base64
(``body_base64``). Times are seconds since the epoch.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mirror_collector.exchange.model import (
    Body,
    Failure,
    Leg,
    Rejection,
    RejectionReason,
    RequestId,
    Role,
    RouteName,
    Variant,
)
from mirror_collector.exchange.problems import join_problems

__all__ = ["BodyDocument", "LegDocument", "ResponseDocument", "parse_document"]

_MAX_PROBLEMS: Final = 5
_MESSAGES: Final = {"extra_forbidden": "unknown field", "model_type": "must be a JSON object"}
"""Messages that replace those of pydantic, which name Python types."""

_Name = Annotated[str, Field(min_length=1, max_length=256)]
_Seconds = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=1 << 53)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


class BodyDocument(_Document):
    """A message body."""

    body: str | None = None
    body_base64: str | None = None
    total: _Count | None = None
    """Size on the wire in bytes, if ``body`` is only the beginning."""

    content_type: Annotated[str, Field(max_length=256)] = "application/json"
    content_encoding: Annotated[str, Field(max_length=256)] = ""


class ResponseDocument(BodyDocument):
    """The response."""

    status: Annotated[int, Field(ge=100, le=599)] | None = None
    """Absent if there was no response."""

    headers_at: _Seconds | None = None
    first_chunk_at: _Seconds | None = None
    last_chunk_at: _Seconds | None = None
    chunks: _Count = 0
    complete: bool = True


class LegDocument(_Document):
    """A leg."""

    route: _Name
    role: Role
    request_id: _Name
    variant: Annotated[str, Field(max_length=256)]
    started_at: _Seconds
    method: Annotated[str, Field(max_length=16)] = "POST"
    path: Annotated[str, Field(max_length=4096)] = ""
    request: BodyDocument = BodyDocument()
    request_ended_at: _Seconds | None = None
    response: ResponseDocument = ResponseDocument()
    client_left: bool = False
    failure: Failure | None = None
    unit: Annotated[str, Field(max_length=256)] = ""
    """User or session of the request."""

    expects_noise: bool = False
    """For a primary: whether a leg of role ``noise`` will be sent for the same request."""

    node: Annotated[str, Field(max_length=256)] = ""


def parse_document(value: Any, *, max_body: int = 1 << 20) -> Leg | Rejection:
    """Parse one leg from a decoded JSON value; at most `max_body` bytes of each body are kept."""
    try:
        document = LegDocument.model_validate(value)
    except ValidationError as error:
        return Rejection(reason=RejectionReason.BAD_FIELD, detail=_explain(error))
    try:
        return _leg(document, max_body=max_body)
    except binascii.Error:
        return Rejection(
            reason=RejectionReason.BAD_BASE64,
            detail="request.body_base64 or response.body_base64: not valid base64",
        )


def _explain(error: ValidationError) -> str:
    """Describe the invalid fields without quoting their values."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    problems = [
        f"{'.'.join(map(str, problem['loc'])) or 'leg'}: {_MESSAGES.get(problem['type'], problem['msg'])}"
        for problem in errors
    ]
    return join_problems(problems, _MAX_PROBLEMS)[:1024]


def _leg(document: LegDocument, *, max_body: int) -> Leg:
    response = document.response
    return Leg(
        route=RouteName(document.route),
        role=document.role,
        request_id=RequestId(document.request_id),
        variant=Variant(document.variant),
        method=document.method,
        path=document.path,
        started_us=_micros(document.started_at),
        request=_body(document.request, max_body=max_body, ended=True),
        request_ended_us=_micros_or_none(document.request_ended_at),
        status=response.status,
        details="",
        response=_body(response, max_body=max_body, ended=response.complete),
        headers_us=_micros_or_none(response.headers_at),
        first_chunk_us=_micros_or_none(response.first_chunk_at),
        last_chunk_us=_micros_or_none(response.last_chunk_at),
        chunks=response.chunks,
        complete=response.complete and response.status is not None,
        client_left=document.client_left,
        failure=document.failure,
        node=document.node,
        unit=document.unit,
        expects_noise=document.expects_noise,
    )


def _body(document: BodyDocument, *, max_body: int, ended: bool) -> Body:
    if document.body_base64 is not None:
        # Decoding a non-ASCII str raises ValueError; decoding its bytes raises binascii.Error.
        data = base64.b64decode(document.body_base64.encode(), validate=True)
    else:
        data = (document.body or "").encode()
    total = max(len(data), document.total or 0) if ended else None
    return Body(
        data=data[:max_body],
        total=total,
        content_type=document.content_type,
        content_encoding=document.content_encoding,
    )


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)


def _micros_or_none(seconds: float | None) -> int | None:
    return None if seconds is None else _micros(seconds)

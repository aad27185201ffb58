"""Builders of legs, log entries and documents."""

from __future__ import annotations

import base64
import json
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from envoy_data_plane.envoy.config.core.v3 import Metadata, Node, RequestMethod
    from envoy_data_plane.envoy.data.accesslog.v3 import (
        AccessLogCommon,
        HttpAccessLogEntry,
        HttpRequestProperties,
        HttpResponseProperties,
        ResponseFlags,
    )
    from envoy_data_plane.envoy.service.accesslog.v3 import (
        StreamAccessLogsMessage,
        StreamAccessLogsMessageHttpAccessLogEntries,
        StreamAccessLogsMessageIdentifier,
    )
    from envoy_data_plane.google.protobuf import Struct, Value

from mirror_collector.exchange import (
    Body,
    Failure,
    Leg,
    RequestId,
    Role,
    RouteName,
    Variant,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

T0 = 1_700_000_000_000_000
"""Start time of every request in the tests, in microseconds."""


def chat_json(text: str, *, tokens: int | None = 3, finish: str = "stop") -> bytes:
    """Return a plain chat completion."""
    usage = {} if tokens is None else {"usage": {"prompt_tokens": 7, "completion_tokens": tokens}}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"object": "chat.completion", "choices": [choice], **usage}).encode()


def chat_stream(pieces: Sequence[str], *, tokens: int | None = None, done: bool = True) -> bytes:
    """Return a streamed chat completion with one event per piece."""
    events: list[Any] = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
    events += [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    if done:
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if tokens is not None:
        events.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}})
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events]
    return "".join([*lines, "data: [DONE]\n\n"] if done else lines).encode()


def leg(
    role: Role = Role.PRIMARY,
    request_id: str = "r1",
    body: bytes = b"",
    *,
    route: str = "chat",
    content_type: str = "application/json",
    status: int | None = 200,
    complete: bool = True,
    total: int | None = None,
    client_left: bool = False,
    failure: Failure | None = None,
    first_ms: float = 20.0,
    last_ms: float = 80.0,
) -> Leg:
    """Return a leg of variant v1 (primary) or v2 (shadow, noise)."""
    data = body or chat_json("hello world")
    return Leg(
        route=RouteName(route),
        role=role,
        request_id=RequestId(request_id),
        variant=Variant("v1" if role is Role.PRIMARY else "v2"),
        method="POST",
        path="/v1/chat/completions",
        started_us=T0,
        request=Body(data=b"{}", total=2, content_type="application/json"),
        request_ended_us=T0 + 100,
        status=status,
        details="via_upstream",
        response=Body(
            data=data,
            total=total or (len(data) if complete else None),
            content_type=content_type,
        ),
        headers_us=T0 + 10_000,
        first_chunk_us=T0 + round(first_ms * 1000),
        last_chunk_us=T0 + round(last_ms * 1000),
        chunks=2,
        complete=complete,
        client_left=client_left,
        failure=failure,
    )


def document(role: str = "primary", request_id: str = "r1", text: str = "hello world") -> dict[str, Any]:
    """Return a leg as JSON for ``POST /v1/exchanges``."""
    return {
        "route": "chat",
        "role": role,
        "request_id": request_id,
        "variant": "v1" if role == "primary" else "v2",
        "started_at": T0 / 1e6,
        "path": "/v1/chat/completions",
        "request": {"body": "{}"},
        "response": {
            "status": 200,
            "body": chat_json(text).decode(),
            "first_chunk_at": T0 / 1e6 + 0.02,
            "last_chunk_at": T0 / 1e6 + 0.08,
        },
    }


def capture(body: bytes, *, cuts: Sequence[int] = (), end: bool = True) -> dict[str, str]:
    """Return the capture fields of a response body split into pieces."""
    edges = [0, *sorted(cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(edges) if b > a]
    fields = {"th": str(T0 + 10_000)}
    for i, piece in enumerate(pieces, start=1):
        fields[f"b{i}"] = base64.b64encode(piece).decode()
        half = len(piece) // 2
        sizes = [half, len(piece) - half] if half else [len(piece)]
        fields[f"t{i}"] = ",".join(f"{T0 + 20_000 + i * 1000 + n}:{size}" for n, size in enumerate(sizes))
    if end:
        fields["end"] = f"{T0 + 90_000}:{2 * len(pieces)}:{len(body)}"
    return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryParts:
    """The parts of a log entry that tests vary."""

    role: str = "primary"
    request_id: str = "r1"
    cluster: str = "chat/v1"
    body: bytes = b""
    content_type: str = "application/json"
    status: int = 200
    flags: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()
    end: bool = True


def entry(parts: EntryParts, **overrides: str | None) -> HttpAccessLogEntry:
    """Return a log entry of Envoy; `overrides` replace capture fields, None removes one."""
    fields: dict[str, str | None] = {
        "route": "chat",
        "role": parts.role,
        "t0": str(T0),
        "req": base64.b64encode(b'{"stream":false}').decode(),
        "req_total": "16",
        "req_end": str(T0 + 100),
        **capture(parts.body or chat_json("hello world"), cuts=parts.cuts, end=parts.end),
        **overrides,
    }
    captured = Struct(
        fields={key: Value(string_value=value) for key, value in fields.items() if value is not None}
    )
    return HttpAccessLogEntry(
        common_properties=AccessLogCommon(
            sample_rate=1.0,
            start_time=datetime.fromtimestamp(T0 / 1e6, UTC),
            time_to_first_upstream_rx_byte=timedelta(milliseconds=10),
            duration=timedelta(milliseconds=95),
            upstream_cluster=parts.cluster,
            upstream_request_attempt_count=2,
            route_name="chat/sampled",
            stream_id="s1",
            response_flags=_flags(parts.flags),
            metadata=Metadata(
                filter_metadata={
                    "shiftplane.capture": captured,
                    "another.filter": Struct(fields={"n": Value(number_value=1.5)}),
                }
            ),
        ),
        request=HttpRequestProperties(
            request_method=RequestMethod.POST,
            path="/v1/chat/completions",
            request_id=parts.request_id,
            user_agent="curl",
            request_headers={"content-type": "application/json"},
        ),
        response=HttpResponseProperties(
            response_code=parts.status,
            response_headers={"content-type": parts.content_type},
            response_code_details="via_upstream",
        ),
    )


def _flags(names: Sequence[str]) -> ResponseFlags:
    flags = ResponseFlags()
    for name in names:
        setattr(flags, name, True)
    return flags


def message(*entries: HttpAccessLogEntry, node: str | None = "envoy-1") -> bytes:
    """Return an encoded message of the log stream."""
    identifier = None
    if node is not None:
        identifier = StreamAccessLogsMessageIdentifier(
            node=Node(id=node, cluster="chat", user_agent_name="envoy"), log_name="shiftplane"
        )
    logs = StreamAccessLogsMessageHttpAccessLogEntries(log_entry=list(entries))
    return bytes(StreamAccessLogsMessage(identifier=identifier, http_logs=logs))

"""Access log entries as an Envoy sends them, encoded once; sending only replaces the request ids."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from mirror_collector.wire import accesslog_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["METHOD", "entry", "feed", "plain", "stream"]

METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

_ID: Final = "r%035d"
_BATCH: Final = 20
"""Entries per message; Envoy flushes at 64 KiB or 200 ms."""


def plain(words: int, word: str = "word") -> bytes:
    """Return a chat response that is not streamed."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": f"{word} " * words},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 7, "completion_tokens": words}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def stream(chunks: int, word: str = "word") -> bytes:
    """Return a streamed chat response of `chunks` events, as vLLM sends them."""
    events = [
        {
            "id": "chatcmpl-0123456789abcdef0123456789abcdef",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": "chat-large",
            "choices": [
                {"index": 0, "delta": {"content": f"{word}{n} "}, "logprobs": None, "finish_reason": None}
            ],
        }
        for n in range(chunks)
    ]
    return "".join(f"data: {json.dumps(one)}\n\n" for one in events).encode() + b"data: [DONE]\n\n"


def entry(role: str, cluster: str, body: bytes, *, content_type: str, chunks: int) -> bytes:
    """Return an encoded entry with a request of about 1 KB and a placeholder as its request id."""
    began = int(time.time() * 1e6)
    message = wire.HTTPAccessLogEntry()
    message.request.request_id = _ID % 0
    message.request.request_method = 3
    message.request.path = b"/v1/chat/completions"
    message.request.request_headers["content-type"] = b"application/json"
    message.response.response_code.value = 200
    message.response.response_headers["content-type"] = content_type.encode()
    message.response.response_code_details = "via_upstream"
    message.common_properties.upstream_cluster = cluster
    fields = message.common_properties.metadata.filter_metadata["shiftplane.capture"].fields
    document = {"model": "chat", "messages": [{"role": "user", "content": "hello " * 150}]}
    request = json.dumps(document).encode()
    values = {
        "route": "chat",
        "role": role,
        "t0": str(began),
        "req": base64.b64encode(request).decode(),
        "req_total": str(len(request)),
        "req_end": str(began + 100),
        "th": str(began + 5_000),
        "end": f"{began + 90_000}:{chunks}:{len(body)}",
    }
    size = -(-len(body) // chunks)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    groups = [pieces[:1], *(pieces[start : start + 16] for start in range(1, len(pieces), 16))]
    for number, group in enumerate(groups, start=1):
        values[f"b{number}"] = base64.b64encode(b"".join(group)).decode()
        values[f"t{number}"] = ",".join(
            f"{began + 10_000 + number * 1_000 + n}:{len(piece)}" for n, piece in enumerate(group)
        )
    for key, value in values.items():
        fields[key].string_value = value.encode()
    return bytes(message.SerializeToString())


async def feed(
    address: str,
    templates: Sequence[bytes],
    requests: range,
    *,
    pace: Callable[[int], object] | None = None,
) -> None:
    """Send the legs of all requests; after each message, await `pace` with the number of requests sent."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_unary(METHOD)()
        marker = (_ID % 0).encode()
        pending: list[bytes] = []
        for sent, number in enumerate(requests, start=1):
            request_id = (_ID % (number + 1)).encode()
            pending += [template.replace(marker, request_id) for template in templates]
            if len(pending) >= _BATCH:
                message = wire.StreamAccessLogsMessage()
                message.http_logs.log_entry.extend(pending)
                pending = []
                await call.write(message.SerializeToString())
                if pace is not None:
                    await pace(sent)  # type: ignore[misc] # the caller passes a coroutine function
        message = wire.StreamAccessLogsMessage()
        message.http_logs.log_entry.extend(pending)
        await call.write(message.SerializeToString())
        await call.done_writing()
        await call

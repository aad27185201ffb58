"""Invalid captured exchanges: malformed, oversized, with impossible values or impossible times."""

from __future__ import annotations

import base64
import gzip
import json
import time
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.wire import accesslog_pb2 as wire

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = ["LARGE", "document", "entry"]

LARGE: Final = 64 << 20

_TYPES: Final = (
    b"application/json",
    b"text/event-stream",
    b"image/png",
    b"",
    b"\xff\xfe",
    b"a/b; charset=\x00",
)
_ENCODINGS: Final = (b"", b"gzip", b"br", b"deflate", b"gzip, gzip", b"\xff")


def entry(rng: random.Random) -> bytes:
    """Return a log entry that is often malformed."""
    kind = rng.randrange(10)
    if kind == 0:
        return rng.randbytes(rng.randrange(400))
    message = wire.HTTPAccessLogEntry()
    message.request.request_id = rng.choice(["", "r" * 300, f"r{rng.randrange(1 << 20)}", "\0", "ä" * 50])
    message.request.request_method = rng.choice([0, 3, 9, 77, -1])
    message.request.path = rng.choice([b"/v1/chat/completions?key=x", rng.randbytes(30), b"/" * 9000])
    message.request.request_headers["content-encoding"] = rng.choice(_ENCODINGS)
    message.response.response_headers["content-type"] = rng.choice(_TYPES)
    message.response.response_headers["content-encoding"] = rng.choice(_ENCODINGS)
    message.response.response_code.value = rng.choice([0, 200, 404, 503, 99_999])
    message.common_properties.upstream_cluster = rng.choice(["chat/v1", "", "x" * 999, "chat/v2/shadow"])
    message.common_properties.upstream_request_attempt_count = rng.choice([0, 1, 4_000_000_000])
    fields = message.common_properties.metadata.filter_metadata["shiftplane.capture"].fields
    for key, value in _fields(rng).items():
        fields[key].string_value = value
    data = bytes(message.SerializeToString())
    if kind == 1:
        place = rng.randrange(len(data))
        return data[:place] + rng.randbytes(3) + data[place + 3 :]
    return data[: rng.randrange(len(data))] if kind == 2 else data


def _fields(rng: random.Random) -> dict[str, bytes]:
    now = int(time.time() * 1e6)
    skew = rng.choice([0, 0, -(10**15), 10**15, 10**17 - now, -now])
    pieces = rng.randrange(4)
    found = {
        "route": rng.choice([b"chat", b"chat", b"", b"\xff", b"r" * 400, b"chat\0"]),
        "role": rng.choice([b"primary", b"shadow", b"noise", b"other", b""]),
        "t0": str(now + skew).encode(),
        "req": _base64(rng, _body(rng)),
        "req_total": _number(rng),
        "th": str(now - skew).encode(),
        "unit": _base64(rng, rng.randbytes(rng.randrange(600))),
        "end": rng.choice([b"", b"1:2:3", b":", b"9" * 40 + b":1:1", f"{now}:1:99".encode(), b"\xff:1:1"]),
    }
    for number in range(1, pieces + 1):
        found[f"b{number}"] = _base64(rng, _body(rng))
        found[f"t{number}"] = rng.choice([b"", b"1:1,2:2", b"x:y", b"," * 5_000, str(now).encode(), b"\xfe"])
    for key in rng.sample(sorted(found), rng.randrange(3)):
        del found[key]
    return found


def _number(rng: random.Random) -> bytes:
    return rng.choice([b"12", b"-1", b"1e9", b"9" * 30, "١٢".encode(), b"", b"0x10"])


def _base64(rng: random.Random, data: bytes) -> bytes:
    good = base64.b64encode(data)
    return rng.choice([good, good, good, good[:-1], b"*" + good, good + b"\n", b"\xff\xfe" + good])


def _body(rng: random.Random) -> bytes:
    return rng.choice(_BODIES)(rng)


def _deep(rng: random.Random) -> bytes:
    return rng.choice([b"[", b'{"a":']) * rng.choice([50, 2_000, 100_000])


def _bomb(rng: random.Random) -> bytes:
    line = rng.choice(
        [b"data:\n\n", b"\n", b"data: {}\n\n", b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n']
    )
    return line * rng.choice([10, 1_000, 20_000])


def _packed(rng: random.Random) -> bytes:
    return gzip.compress(b"0" * rng.choice([1_000, 8 << 20]), 1)


def _odd_json(rng: random.Random) -> bytes:
    value: Any = rng.choice(
        [
            {"choices": None},
            {"choices": [None, 1, {"index": -1}, {"index": 10**30, "message": {"content": {}}}]},
            {
                "choices": [
                    {"message": {"content": "\ud800", "tool_calls": [{"function": {"arguments": 1}}] * 99}}
                ]
            },
            {"choices": [{"text": "a" * 200_000}] * 3, "usage": {"completion_tokens": 10**40}},
            {"object": "response", "output": [{"type": "message", "content": [None, {"text": 5}]}] * 99},
            {"response_format": {"type": ["json_object"]}, "messages": "no"},
            {"error": {"message": "password is hunter2hunter"}},
            [1] * 1_000,
            float("nan"),
        ]
    )
    return json.dumps(value).encode()


_BODIES: Final[tuple[Callable[[random.Random], bytes], ...]] = (
    lambda rng: rng.randbytes(rng.randrange(2_000)),
    lambda rng: b"\xc3\x28\xff" * rng.randrange(300),
    _deep,
    _bomb,
    _packed,
    _odd_json,
    _odd_json,
)


def document(rng: random.Random) -> bytes:
    """Return a body of ``POST /v1/exchanges`` that is often malformed."""
    good: dict[str, Any] = {
        "route": "chat",
        "role": rng.choice(["primary", "shadow", "noise", "x"]),
        "request_id": f"h{rng.randrange(1 << 20)}",
        "variant": "v1",
        "started_at": rng.choice([0, 1.7e9, 1e11, 1e300, -1, "now", None]),
        "response": {
            "status": rng.choice([200, 99, "200", None]),
            "body_base64": rng.choice(["aGk=", "*", "ä", None]),
            "first_chunk_at": rng.choice([0, 1.7e9, float("inf")]),
        },
    }
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(500))
    if kind == 1:
        return _deep(rng)
    if kind == 2:
        return json.dumps({**good, rng.choice(["rote", "body", "\0"]): 1}).encode()
    if kind == 3:
        return json.dumps([good] * rng.randrange(20)).encode()
    if kind == 4:
        return b"\n" * rng.randrange(3_000)
    return json.dumps(good).encode()

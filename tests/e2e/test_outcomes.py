"""What Envoy counts of every kind of answer: one class per request, whatever the API and the failure."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from aiohttp import web

from tests.support.plane import Plane, eventually, route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.e2e

CHAT: Final = "/v1/chat/completions"
MESSAGES: Final = "/v1/messages"
RESPONSES: Final = "/v1/responses"
REQUESTS: Final = 2_000
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream; charset=utf-8"


def events(*datas: str | dict[str, Any]) -> bytes:
    return "".join(
        f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n" for data in datas
    ).encode()


def typed(*datas: dict[str, Any]) -> bytes:
    return b"".join(f"event: {data['type']}\n".encode() + events(data) for data in datas)


def as_json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


DELTA: Final = {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "a"}}]}
USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 5}
TYPED_USAGE: Final = {"input_tokens": 3, "output_tokens": 5}
VLLM_ERROR: Final = {"error": {"message": "boom", "type": "InternalServerError", "code": 500}}

ANSWERS: Final[dict[str, tuple[str, str, bytes, str]]] = {
    # Name: path, content type, body, class. The class is the kind of failure or the reason it is not read.
    "chat": (CHAT, JSON, as_json(object="chat.completion", model="m", error=None, usage=USAGE), "metered"),
    "charset": (CHAT, f"{JSON}; charset=utf-8", as_json(object="x", usage=USAGE), "metered"),
    "upper case": (CHAT, "Application/JSON", as_json(object="x", usage=USAGE), "metered"),
    "no usage": (CHAT, JSON, as_json(object="chat.completion", model="m", usage=None), "unmetered"),
    "messages": (MESSAGES, JSON, as_json(type="message", model="m", usage=TYPED_USAGE), "metered"),
    "responses": (RESPONSES, JSON, as_json(object="response", error=None, usage=TYPED_USAGE), "metered"),
    "embeddings": (
        "/v1/embeddings",
        JSON,
        as_json(object="list", model="m", usage={"prompt_tokens": 3, "total_tokens": 3}),
        "prompt only",
    ),
    "rerank": ("/v1/rerank", JSON, as_json(id="r", model="m", results=[]), "unmetered"),
    "error false": (CHAT, JSON, as_json(object="x", error=False, usage=USAGE), "metered"),
    "error text": (CHAT, JSON, as_json(error="boom"), "in_band"),
    "error object": (CHAT, JSON, json.dumps(VLLM_ERROR).encode(), "in_band"),
    "error code": (CHAT, JSON, as_json(error={"code": 500}), "in_band"),
    "error with usage": (CHAT, JSON, as_json(object="x", error={"type": "t"}, usage=USAGE), "in_band"),
    "older vLLM error": (CHAT, JSON, as_json(object="error", message="boom", code=500), "in_band"),
    "Anthropic error": (MESSAGES, JSON, as_json(type="error", error={"type": "t"}), "in_band"),
    "broken": (CHAT, JSON, b'{"choices": [', "invalid"),
    "empty": (CHAT, JSON, b"", "empty"),
    "HTML": (CHAT, "text/html", b"<html>", "format"),
    "HTML elsewhere": ("/v1/anything", "text/html; charset=utf-8", b"<html>", "format"),
    "text": (CHAT, "text/plain", b"upstream connect error", "format"),
    "binary": ("/v1/embeddings", "application/octet-stream", b"x", "format"),
    "other JSON": (CHAT, JSON, as_json(detail="not today"), "shape"),
    "array": (CHAT, JSON, b"[1, 2]", "shape"),
    "speech": ("/v1/audio/speech", "audio/mpeg", b"x" * 4000, "other"),
    "transcript": ("/v1/audio/transcriptions", "text/plain", b"hello", "other"),
    "stream": (CHAT, EVENTS, events(DELTA, {**DELTA, "usage": USAGE}, "[DONE]"), "metered"),
    "stream with model": (CHAT, EVENTS, events({"choices": [{}], "model": "m"}, "[DONE]"), "unmetered"),
    "stream of others": (CHAT, EVENTS, events({"value": 42}, {"value": 43}, "[DONE]"), "shape"),
    "stream, CRLF": (CHAT, EVENTS, events(DELTA, "[DONE]").replace(b"\n", b"\r\n"), "unmetered"),
    "stream with error": (CHAT, EVENTS, events(DELTA, VLLM_ERROR, "[DONE]"), "in_band"),
    "stream of an error": (CHAT, EVENTS, events(VLLM_ERROR, "[DONE]"), "in_band"),
    "stream, error null": (CHAT, EVENTS, events({**DELTA, "error": None}, "[DONE]"), "unmetered"),
    "stream without mark": (CHAT, EVENTS, events(DELTA, DELTA), "unended"),
    "stream, mark only": (CHAT, EVENTS, events("[DONE]"), "empty"),
    "stream, comments": (CHAT, EVENTS, b": ping\n\n: ping\n\n", "empty"),
    "stream, nothing": (CHAT, EVENTS, b"", "empty"),
    "message stream": (
        MESSAGES,
        EVENTS,
        typed(
            {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
            {"type": "content_block_delta", "delta": {"text": "a"}},
            {"type": "message_delta", "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
        ),
        "metered",
    ),
    "message stream, error": (
        MESSAGES,
        EVENTS,
        typed({"type": "message_start"}, {"type": "error", "error": {"type": "overloaded_error"}}),
        "in_band",
    ),
    "message stream, unended": (MESSAGES, EVENTS, typed({"type": "message_start"}), "unended"),
    "response stream": (
        RESPONSES,
        EVENTS,
        typed(
            {"type": "response.created", "response": {"error": None}},
            {"type": "response.completed", "response": {"error": None, "usage": TYPED_USAGE}},
        ),
        "metered",
    ),
    "response stream, failed": (
        RESPONSES,
        EVENTS,
        typed(
            {"type": "response.created"}, {"type": "response.failed", "response": {"error": {"code": "x"}}}
        ),
        "in_band",
    ),
    "response stream, error": (RESPONSES, EVENTS, typed({"type": "error", "message": "boom"}), "in_band"),
    "response stream, unended": (RESPONSES, EVENTS, typed({"type": "response.created"}), "unended"),
}
STATUSES: Final = {
    **dict.fromkeys((500, 502, 503, 529), "failed"),
    **dict.fromkeys((301, 401, 403, 404, 408, 429), "rejected"),
    **dict.fromkeys((400, 413, 422), "client_errors"),
}
KINDS: Final = (
    *ANSWERS,
    *(f"status {status}" for status in STATUSES),
    "compressed",
    "compressed stream",
    "claimed compression",
    "chunked",
    "cut",
)


class Backend:
    """A model server that answers in every way, and counts what it did by class."""

    def __init__(self) -> None:
        self.classes: Counter[str] = Counter()
        self.address = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        kind = request.headers["x-kind"]
        await request.read()
        if kind.startswith("status "):
            status = int(kind.removeprefix("status "))
            self.classes[STATUSES[status]] += 1
            return web.json_response({"error": {"message": "on purpose"}}, status=status)
        if kind in ANSWERS:
            _, content_type, body, found = ANSWERS[kind]
            self.classes[found] += 1
            return web.Response(body=body, headers={"content-type": content_type})
        response = web.StreamResponse(headers={"content-type": JSON})
        if kind.startswith("compressed"):
            self.classes["encoded"] += 1
            response.headers["content-encoding"] = "gzip"
            if kind == "compressed stream":
                response.headers["content-type"] = EVENTS
            await response.prepare(request)
            await response.write(gzip.compress(ANSWERS["chat"][2]))
        elif kind == "claimed compression":
            # Encoders of br and zstd store short events as they are, so the parser of streams reads them.
            self.classes["encoded"] += 1
            response.headers.update({"content-encoding": "br", "content-type": EVENTS})
            await response.prepare(request)
            await response.write(events(DELTA))
        elif kind == "chunked":
            self.classes["unsized"] += 1
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(ANSWERS["chat"][2])
        else:
            self.classes["failed"] += 1
            response.headers["content-type"] = EVENTS
            await response.prepare(request)
            await response.write(events(DELTA))
            await asyncio.sleep(0.02)
            assert request.transport is not None
            request.transport.abort()
        return response


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    found = Backend()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


async def ask(session: aiohttp.ClientSession, entry: str, kind: str) -> bytes:
    """Return the body as it came over the wire; empty if the answer broke off."""
    path = ANSWERS[kind][0] if kind in ANSWERS else CHAT
    try:
        async with session.post(
            entry + path, data=b"{}", headers={"x-kind": kind}, allow_redirects=False
        ) as answer:
            return await answer.read()
    except aiohttp.ClientPayloadError:
        return b""


async def test_every_answer_has_one_class(plane: Plane, backend: Backend) -> None:
    await asyncio.to_thread(plane.start_control_plane, collector=False)
    spec = route(("v1", backend.address)).replace("stable:", "retries: 0\n  stable:")
    await asyncio.to_thread(plane.apply, spec)
    envoy = await asyncio.to_thread(plane.start_envoy)
    kinds = [*KINDS, *random.Random(1).choices(KINDS, k=REQUESTS - len(KINDS))]
    limit = asyncio.Semaphore(16)

    async def one(kind: str) -> None:
        async with limit:
            body = await ask(session, envoy.entry, kind)
            assert kind not in ANSWERS or body == ANSWERS[kind][2], kind

    async with aiohttp.ClientSession(auto_decompress=False) as session:
        await asyncio.gather(*(one(kind) for kind in kinds))

    def cost() -> dict[str, Any]:
        (found,) = plane.view()["costs"] or [{"requests": 0}]
        return dict(found)

    found = await asyncio.to_thread(eventually, cost, lambda cost: cost["requests"] == REQUESTS)
    want = backend.classes
    kinds_of_failure = ("in_band", "invalid", "format", "unended", "empty")
    assert found["failures"] == {kind: want[kind] for kind in kinds_of_failure}
    assert found["failed"] == want["failed"] + sum(want[kind] for kind in kinds_of_failure)
    assert found["rejected"] == want["rejected"]
    assert found["client_errors"] == want["client_errors"]
    assert found["unread"] == {reason: want[reason] for reason in ("encoded", "unsized", "shape", "other")}
    assert (found["left"], found["waiting"], found["retried"]) == (0, 0, 0)

"""Requests that the simulated server rejects, in the form of each API, and the forms that it reads."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.simulated import NO_FAULT, Api, SimulatedConfig
from demo.simulated.audio import form_fields
from demo.simulated.engine import Engine, parse
from demo.simulated.wire import WireError
from tests.support import api_shapes as shapes
from tests.support.simulated import put_fault, serving
from tests.support.simulated_apis import BODIES, PATHS, ask

ALL = tuple(PATHS)


@pytest.mark.parametrize("api", ALL)
async def test_another_models_name_is_a_404_in_the_form_of_the_api(api: str) -> None:
    async with serving() as (_, session):
        got = await ask(session, api, model="other")
    assert got.status == 404
    if api == "messages":
        assert shapes.AnthropicError.model_validate(got.document).error.type == "not_found_error"
    else:
        error = shapes.VllmError.model_validate(got.document).error
        assert (error.type, error.code, error.param) == ("NotFoundError", 404, "model")


@pytest.mark.parametrize("api", [api for api in ALL if api != "transcription"])
async def test_too_long_requests_are_a_400_in_the_form_of_the_api(api: str) -> None:
    async with serving(max_model_len=2) as (_, session):
        got = await ask(session, api)
    assert got.status == 400
    if api == "messages":
        assert shapes.AnthropicError.model_validate(got.document).error.type == "invalid_request_error"
    else:
        assert shapes.VllmError.model_validate(got.document).error.type == "BadRequestError"


BAD: list[tuple[str, dict[str, Any]]] = [
    ("responses", {"input": []}),
    ("responses", {"input": ""}),
    ("responses", {"max_output_tokens": 0}),
    ("messages", {"max_tokens": None}),
    ("messages", {"messages": "hello"}),
    ("messages", {"n": 2}),
    ("chat", {"tools": [3]}),
    ("chat", {"tools": [{"type": "function"}]}),
    ("chat", {"tool_choice": {"type": "function", "function": {"name": "absent"}}}),
    ("embeddings", {"input": []}),
    ("embeddings", {"input": ["a", 3]}),
    ("embeddings", {"input": "a", "encoding_format": "hex"}),
    ("embeddings", {"dimensions": 10_000}),
    ("rerank", {"query": None}),
    ("rerank", {"documents": []}),
    ("rerank", {"top_n": -1}),
    ("score", {"text_1": ["a", "b", "c"]}),
    ("score", {"text_2": None}),
    ("speech", {"input": ""}),
    ("speech", {"response_format": "midi"}),
    ("transcription", {"response_format": "srt"}),
]


@pytest.mark.parametrize(("api", "fields"), BAD, ids=str)
async def test_bad_requests_are_a_400(api: str, fields: dict[str, Any]) -> None:
    async with serving() as (_, session):
        got = await ask(session, api, **fields)
    assert got.status == 400
    shape = shapes.AnthropicError if api == "messages" else shapes.VllmError
    shape.model_validate(got.document)


@pytest.mark.parametrize("body", [b"", b"--x--", b"--x\r\n\r\n--x--", b"--x\r\nname=a\r\n\r\nv"])
def test_incomplete_forms_are_rejected(body: bytes) -> None:
    if body == b"--x--":
        assert form_fields("multipart/form-data; boundary=x", body) == {}
        return
    with pytest.raises(WireError):
        form_fields("multipart/form-data; boundary=x", body)


@given(st.binary(max_size=200), st.text(max_size=20))
def test_forms_are_read_as_they_were_written(audio: bytes, name: str) -> None:
    form = aiohttp.MultipartWriter("form-data", boundary="frontier")
    form.append(audio, {"content-type": "audio/wav"}).set_content_disposition(
        "form-data", name="file", filename="a.wav"
    )
    form.append(name).set_content_disposition("form-data", name="model")
    fields = form_fields('multipart/form-data; boundary="frontier"', asyncio.run(form.as_bytes()))
    assert fields == {"file": audio, "model": name.encode()}


async def test_a_held_fault_of_models_needs_its_name() -> None:
    async with serving() as (_, session):
        await put_fault(session, "error")
        async with session.get("/v1/models") as response:
            assert response.status == 200
        async with session.post("/_sim/faults", json={"mode": "error", "api": "models"}) as response:
            assert response.status == 200
        async with session.get("/v1/models/chat-large") as response:
            assert response.status == 500


async def test_text_that_is_no_unicode_is_answered() -> None:
    async with serving() as (_, session):
        for text in (rb"\ud83d", rb"\u00e9"):
            data = b'{"query": "%b", "documents": ["%b"]}' % (text, text)
            headers = {"content-type": "application/json"}
            async with session.post(PATHS["rerank"], data=data, headers=headers) as response:
                shapes.Rerank.model_validate(await response.json())


NAMES = [
    "model",
    "messages",
    "input",
    "prompt",
    "role",
    "content",
    "type",
    "text",
    "tools",
    "tool_choice",
    "function",
    "name",
    "parameters",
    "input_schema",
    "stream",
    "stream_options",
    "include_usage",
    "max_tokens",
    "temperature",
    "n",
    "system",
    "instructions",
    "query",
    "documents",
    "text_1",
    "text_2",
    "response_format",
    "format",
    "voice",
    "top_n",
    "dimensions",
    "items",
    "properties",
    "enum",
    "output",
]
WORDS = ["chat-large", "user", "tool", "text", "function", "object", "array", "json_object", "none", "", "x"]
SCALARS = st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.sampled_from(WORDS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)
JSON_APIS = [api for api in Api if api.value in BODIES]


@given(st.sampled_from(JSON_APIS), st.dictionaries(st.sampled_from(NAMES), JSON, max_size=8), st.booleans())
def test_every_body_is_answered_or_rejected(api: Api, document: dict[str, Any], sound: bool) -> None:
    """No body makes the server fail by itself, because such a 500 would be in no book of faults."""
    body = json.dumps((BODIES[api.value] if sound else {}) | document).encode()
    config = SimulatedConfig()
    try:
        parsed = parse(api, "application/json", body, config)
    except WireError as error:
        status = error.status
    else:
        status = 200
        assert Engine(config).answer(api, parsed, NO_FAULT, request_id="r", created=1).script.body
    assert status in {200, 400, 404}


@pytest.mark.parametrize("kind", ["array", "object"])
def test_a_deep_schema_ends(kind: str) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        inner = {"items": schema} if kind == "array" else {"properties": {"a": schema}}
        schema = {"type": kind} | inner
    tool = {"type": "function", "name": "deep", "parameters": {"type": "object", "properties": {"a": schema}}}
    body = json.dumps({"input": "x", "tools": [tool]}).encode()
    config = SimulatedConfig()
    parsed = parse(Api.RESPONSES, "application/json", body, config)
    answered = Engine(config).answer(Api.RESPONSES, parsed, NO_FAULT, request_id="r", created=1)
    assert json.loads(answered.script.body)["output"][0]["name"] == "deep"

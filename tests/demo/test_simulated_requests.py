"""Requests that the simulated server rejects, in the form of each API, and the forms that it reads."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.simulated.audio import form_fields
from demo.simulated.wire import WireError
from tests.support import api_shapes as shapes
from tests.support.simulated import put_fault, serving
from tests.support.simulated_apis import PATHS, ask

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

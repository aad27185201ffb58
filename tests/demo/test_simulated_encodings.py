"""Content encodings of the simulated server, sound and broken."""

from __future__ import annotations

import gzip
import importlib
import re
import sys
import zlib
from collections import Counter
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.simulated import Fault, FaultError, FaultMode, SimulatedVllm
from demo.simulated.encodings import CODINGS, accepted, encoded
from demo.simulated.faults import parse_faults
from tests.support import api_shapes as shapes
from tests.support.simulated import instant, serving
from tests.support.simulated_apis import PATHS, ask, booked, faulty, text

SCORE = {"text_1": "a", "text_2": "b"}
DECODERS: dict[str, Any] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
if "br" in CODINGS:
    DECODERS["br"] = importlib.import_module("brotli").decompress
if "zstd" in CODINGS:
    # Part of the standard library from Python 3.14 on.
    ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    DECODERS["zstd"] = importlib.import_module(ZSTD).decompress
NEEDS_BR = pytest.mark.skipif("br" not in CODINGS, reason="brotli is not installed")
NEEDS_ZSTD = pytest.mark.skipif("zstd" not in CODINGS, reason="zstd is not installed")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("coding", DECODERS)
async def test_an_encoded_answer_decodes_to_the_sound_one(coding: str, *, stream: bool) -> None:
    assert set(CODINGS) == set(DECODERS)
    async with serving() as (_, session):
        sound = await ask(session, "chat", stream=stream)
    got = await raw("encoded", stream=stream, encoding=coding)
    hidden = await raw("unlabeled_encoding", stream=stream, encoding=coding)
    assert got[0] == coding
    assert hidden[0] is None
    for _, body in (got, hidden):
        assert without_time(DECODERS[coding](body)) == without_time(sound.body)


def without_time(body: bytes) -> bytes:
    return re.sub(rb'"created":[0-9]+', b"", body)


async def raw(mode: str, *, stream: bool, **fault: Any) -> tuple[str | None, bytes]:
    """Return (content encoding, body as it was sent) under a fault."""
    async with (
        serving(fault=parse_faults({"mode": mode, **fault})[0]) as (server, _),
        aiohttp.ClientSession(server.url, auto_decompress=False) as session,
    ):
        got = await ask(session, "chat", stream=stream)
        assert booked(server) == Counter({("chat", mode, 200): 1})
    return got.headers.get("content-encoding"), got.body


@pytest.mark.parametrize("stream", [False, True])
async def test_encodings_that_cannot_be_decoded(*, stream: bool) -> None:
    claimed = await raw("claimed_encoding", stream=stream)
    assert claimed[0] == "gzip"
    assert claimed[1].startswith(b"data: " if stream else b"{")
    assert (await raw("unknown_encoding", stream=stream))[0] == "x-simulated"
    coding, corrupt = await raw("corrupt_gzip", stream=stream)
    assert coding == "gzip"
    with pytest.raises(zlib.error):
        zlib.decompressobj(31).decompress(corrupt)
    _, truncated = await raw("truncated_gzip", stream=stream)
    decoder = zlib.decompressobj(31)
    assert decoder.decompress(truncated)
    assert not decoder.eof


async def test_a_small_gzip_body_decodes_to_64_mebibytes() -> None:
    _, body = await raw("gzip_bomb", stream=False)
    assert len(body) < 100_000
    assert len(gzip.decompress(body)) > 64 * 1024 * 1024


@pytest.mark.parametrize("stream", [False, True])
async def test_a_wrong_content_type_has_a_sound_body(*, stream: bool) -> None:
    got = await faulty("chat", "wrong_content_type", stream=stream)
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert text("chat", got, stream=stream)


@pytest.mark.parametrize(
    ("compress", "accept", "coding"),
    [
        (None, "gzip", None),
        ("accept", "identity", None),
        pytest.param("accept", "gzip;q=0.5, zstd", "zstd", marks=NEEDS_ZSTD),
        pytest.param("br", "identity", "br", marks=NEEDS_BR),
    ],
)
async def test_the_server_compresses_on_request(
    compress: str | None, accept: str, coding: str | None
) -> None:
    async with (
        serving(compress=compress) as (server, _),
        aiohttp.ClientSession(server.url, auto_decompress=False) as session,
        session.post(PATHS["score"], json=SCORE, headers={"accept-encoding": accept}) as got,
    ):
        body = await got.read()
    assert got.headers.get("content-encoding") == coding
    shapes.Scores.model_validate_json(DECODERS[coding](body) if coding else body)


async def test_a_compressed_answer_that_is_cut_is_cut_in_its_encoding() -> None:
    async with (
        serving(compress="gzip", fault=Fault(mode=FaultMode.CUT_STREAM)) as (server, _),
        aiohttp.ClientSession(server.url, auto_decompress=False) as session,
    ):
        got = await ask(session, "chat", stream=True)
    decoder = zlib.decompressobj(31)
    assert decoder.decompress(got.body).startswith(b"data: ")
    assert got.cut
    assert not decoder.eof


@pytest.mark.parametrize("compress", ["lzma", ""])
def test_an_unknown_encoding_of_the_server_is_rejected(compress: str) -> None:
    with pytest.raises(FaultError, match="compress"):
        SimulatedVllm(instant(compress=compress))


@given(st.lists(st.binary(max_size=200), max_size=8), st.sampled_from(sorted(DECODERS)))
def test_every_encoding_keeps_the_bytes(parts: list[bytes], coding: str) -> None:
    assert DECODERS[coding](b"".join(encoded(parts, coding))) == b"".join(parts)


@pytest.mark.parametrize(
    ("header", "coding"),
    [("", None), ("gzip", "gzip"), ("gzip;q=0, deflate;q=0.1", "deflate"), ("x, *", None), ("br;q=x", None),
     ("deflate, gzip", "deflate"), ("GZIP ; q=1", "gzip")],
)  # fmt: skip
def test_the_preferred_encoding(header: str, coding: str | None) -> None:
    assert accepted(header) == coding

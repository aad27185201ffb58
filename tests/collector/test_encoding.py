"""Decoding of content encodings: every supported one, and what is wrong with input that cannot be decoded."""

from __future__ import annotations

import gzip
import sys
import zlib
from typing import TYPE_CHECKING

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.exchange.encoding import decode
from mirror_collector.exchange.unread import UnreadReason

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate ": raw_deflate,
    "br": brotli.compress,
    "ZSTD": zstd.compress,
    "zstd, gzip": lambda data: gzip.compress(zstd.compress(data)),
    "identity": bytes,
    "": bytes,
}
PACKED = sorted(name for name in ENCODERS if name not in ("", "identity"))
BODY = b'{"text": "' + bytes(range(32, 127)).replace(b'"', b"").replace(b"\\", b"") * 20 + b'"}'
LIMIT = 4 << 20


@given(st.binary(max_size=4000), st.sampled_from(sorted(ENCODERS)))
def test_what_was_encoded_is_decoded(body: bytes, encoding: str) -> None:
    decoded = decode(ENCODERS[encoding](body), encoding, limit=LIMIT)
    assert (decoded.data, decoded.failure, decoded.complete, decoded.ok) == (body, None, True, True)


@pytest.mark.parametrize("encoding", PACKED)
def test_a_truncated_input_is_incomplete(encoding: str) -> None:
    packed = ENCODERS[encoding](BODY)
    for cut in range(1, len(packed) - 8):
        decoded = decode(packed[:cut], encoding, limit=LIMIT)
        assert not decoded.complete, cut
        assert BODY.startswith(decoded.data) or not decoded.ok, cut


@pytest.mark.parametrize("encoding", PACKED)
def test_input_of_another_encoding_is_corrupt(encoding: str) -> None:
    decoded = decode(b"<html>Bad gateway</html>", encoding, limit=LIMIT)
    assert (decoded.failure, decoded.ok, decoded.data) == (
        UnreadReason.CORRUPT,
        False,
        b"<html>Bad gateway</html>",
    )


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])  # brotli has no checksum
def test_a_damaged_input_is_corrupt(encoding: str) -> None:
    packed = bytearray(ENCODERS[encoding](BODY))
    packed[len(packed) // 2] ^= 0xFF
    packed[-3] ^= 0x55
    assert decode(bytes(packed), encoding, limit=LIMIT).failure is UnreadReason.CORRUPT


@pytest.mark.parametrize("encoding", PACKED)
def test_a_bomb_is_too_large(encoding: str) -> None:
    bomb = ENCODERS[encoding](bytes(50 << 20))
    decoded = decode(bomb, encoding, limit=LIMIT)
    assert (decoded.failure, decoded.complete) == (UnreadReason.TOO_LARGE, False)
    assert len(decoded.data) <= max(1 << 20, 200 * len(bomb))
    assert len(decoded.data) <= LIMIT


@pytest.mark.parametrize("encoding", ["br", "zstd"])
def test_a_small_output_may_have_any_ratio(encoding: str) -> None:
    repeated = b'data: {"choices": [{"index": 0, "delta": {"content": " the"}}]}\n\n' * 10_000
    packed = ENCODERS[{"zstd": "ZSTD"}.get(encoding, encoding)](repeated)
    assert len(repeated) > 1000 * len(packed)
    assert decode(packed, encoding, limit=LIMIT).data == repeated


@pytest.mark.parametrize("encoding", sorted(ENCODERS))
def test_the_limit_is_exact(encoding: str) -> None:
    packed = ENCODERS[encoding](BODY)
    assert decode(packed, encoding, limit=len(BODY)).failure is None
    cut = decode(packed, encoding, limit=len(BODY) - 1)
    if encoding != "zstd, gzip":  # The limit holds for each step, and an intermediate step may be larger.
        assert (cut.failure, cut.data) == (UnreadReason.TOO_LARGE, BODY[:-1])


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD"])
def test_several_members_are_joined(encoding: str) -> None:
    packed = ENCODERS[encoding](b"one ") + ENCODERS[encoding](b"two")
    assert decode(packed + b"\0\0", encoding, limit=LIMIT).data == b"one two"
    assert decode(packed, encoding, limit=5).data == b"one t"
    bomb = ENCODERS[encoding](b"") * 20_000
    assert decode(bomb, encoding, limit=LIMIT).failure is UnreadReason.TOO_LARGE


def test_a_window_above_the_limit_of_the_encoding_is_too_large() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(bytes(64)) + compressor.flush()
    assert decode(packed, "zstd", limit=LIMIT).failure is UnreadReason.TOO_LARGE


@pytest.mark.parametrize("encoding", ["compress", "aws-chunked", "gzip, rot13", "gzip," * 4])
def test_other_encodings_are_not_supported(encoding: str) -> None:
    decoded = decode(b"abc", encoding, limit=LIMIT)
    assert (decoded.failure, decoded.ok, decoded.data) == (UnreadReason.ENCODING, False, b"abc")


@given(
    st.binary(max_size=300),
    st.sampled_from(["gzip", "deflate", "br", "zstd", "br, gzip"]),
    st.integers(1, 50),
)
def test_any_input_yields_a_result_within_the_limit(data: bytes, encoding: str, limit: int) -> None:
    assert len(decode(data, encoding, limit=limit).data) <= limit

"""Any response of a target gives a delivery result; none raises an error that would end other deliveries."""

from __future__ import annotations

import asyncio
import random
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.notices import EXAMPLE
from xds_server.notifications.delivery import DeliveryResult, client_session, post
from xds_server.notifications.delivery.http import _retry_after
from xds_server.notifications.messages import Format, Secret, Target, render

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
RAW = (
    b"",
    b"\0" * 100,
    b"\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
    b"HTTP/1.1 99999 what\r\n\r\n",
    b"HTTP/1.1 -1 what\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 503 busy\r\nretry-after: \xff\xfe\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 503 busy\r\nretry-after: Mon, 99 Foo 0000 99:99:99 GMT\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 503 busy\r\nretry-after: " + b"9" * 400 + b"\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nset-cookie: a=b; domain=\xff\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 301 gone\r\nlocation: http://[::1\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 100 go on\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=no\r\ncontent-length: 4\r\n\r\n\xff\xfe\x00\x1b",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 7\r\n\r\nno gzip",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: deflate\r\n\r\n" + zlib.compress(b"\0" * 50_000_000),
)


class RawResponder(asyncio.Protocol):
    """Sends fixed bytes when a request arrives, and closes the connection."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, _data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.raw)
            self.transport.close()


@asynccontextmanager
async def responding(raw: bytes) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(lambda: RawResponder(raw), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def deliver(url: str, timeout_seconds: float = 5) -> DeliveryResult:
    target = Target(name="ops", format=Format.WEBHOOK, url=Secret(url))
    message = render(target, EXAMPLE, None)
    async with client_session() as session:
        return await post(session, target, message, now=1_000.0, timeout_seconds=timeout_seconds)


@pytest.mark.parametrize("raw", RAW)
async def test_an_invalid_response_gives_a_result(raw: bytes) -> None:
    async with responding(raw) as port:
        result = await deliver(f"http://127.0.0.1:{port}/in")
    assert result.reason.isprintable()
    assert len(result.reason) <= 200
    assert result.retry_after < 1e9


async def test_randomly_corrupted_responses_give_a_result() -> None:
    rng = random.Random(7)
    for _ in range(60):
        raw = bytearray(OK)
        for _ in range(rng.randrange(1, 6)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        async with responding(bytes(raw)) as port:
            await deliver(f"http://127.0.0.1:{port}/in")


async def test_an_unresolvable_host_gives_a_readable_reason_without_its_name() -> None:
    result = await deliver("http://missing.invalid/in")
    assert result.status is None
    assert "missing.invalid" not in result.reason
    assert " " in result.reason


async def test_a_plaintext_response_to_tls_gives_a_tls_error() -> None:
    async with responding(OK) as port:
        result = await deliver(f"https://127.0.0.1:{port}/in", timeout_seconds=2)
    assert result.status is None
    assert result.reason.startswith("TLS failed: ")


@given(
    st.text()
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d\d:\d\d:\d\d( [+-]\d{4}| GMT)?")
)
def test_any_retry_after_header_gives_a_bounded_delay(text: str) -> None:
    assert 0 <= _retry_after(text, 1_000.0) < 1e12

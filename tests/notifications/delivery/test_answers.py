"""Whatever a target sends back, there is an answer of it: a target can end nothing but its own messages."""

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
from xds_server.notifications.delivery import Answer, post, session
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


class Speaker(asyncio.Protocol):
    """Answers the first bytes of a connection with the same ones always, and ends it."""

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
async def speaking(raw: bytes) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(lambda: Speaker(raw), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def told(url: str, within: float = 5) -> Answer:
    target = Target(name="ops", format=Format.WEBHOOK, url=Secret(url))
    async with session() as through:
        return await post(through, target, render(target, EXAMPLE, None), now=1_000.0, within=within)


@pytest.mark.parametrize("raw", RAW)
async def test_what_is_no_answer_is_one_all_the_same(raw: bytes) -> None:
    async with speaking(raw) as port:
        answer = await told(f"http://127.0.0.1:{port}/in")
    assert answer.words.isprintable()
    assert len(answer.words) <= 200
    assert answer.retry_after < 1e9


async def test_noise_is_survived() -> None:
    chance = random.Random(7)
    for _ in range(60):
        raw = bytearray(OK)
        for _ in range(chance.randrange(1, 6)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        async with speaking(bytes(raw)) as port:
            await told(f"http://127.0.0.1:{port}/in")


async def test_who_is_not_there_is_said_in_words() -> None:
    answer = await told("http://nobody.invalid/in")
    assert answer.status is None
    assert "nobody.invalid" not in answer.words
    assert " " in answer.words


async def test_plain_words_where_tls_was_expected() -> None:
    async with speaking(OK) as port:
        answer = await told(f"https://127.0.0.1:{port}/in", within=2)
    assert answer.status is None
    assert answer.words.startswith("TLS failed: ")


@given(
    st.text()
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d\d:\d\d:\d\d( [+-]\d{4}| GMT)?")
)
def test_times_to_stay_away_are_whatever_they_want(text: str) -> None:
    assert 0 <= _retry_after(text, 1_000.0) < 1e12

"""One message to one target, and what came back."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import aiohttp

from xds_server import __version__
from xds_server.notifications.messages import redacted, signed

if TYPE_CHECKING:
    from xds_server.notifications.messages import Message, Target

__all__ = ["Answer", "post", "session"]

_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_ENOUGH_BYTES: Final = 4 << 10
_MOST_WORDS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: `status` is None where nothing did; `words` say why, or begin what was said.

    `retry_after` is for how many seconds the target wants to be left alone.
    """

    status: int | None
    words: str
    retry_after: float = 0.0

    @property
    def delivered(self) -> bool:
        """Whether the target has the message."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def again(self) -> bool:
        """Whether another try may go better."""
        return self.status is None or self.status in _AGAIN


def session() -> aiohttp.ClientSession:
    """Return a session for targets: it keeps no cookies, and unpacks nothing that is sent to it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1, limit_per_host=1),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"shiftplane/{__version__}", "Accept-Encoding": "identity"},
        auto_decompress=False,
    )


async def post(
    through: aiohttp.ClientSession, target: Target, message: Message, *, now: float, within: float
) -> Answer:
    """Post a message once. Redirects are not followed: whoever answers there is not who was asked for."""
    try:
        async with through.post(
            target.url.value,
            data=message.body,
            headers=signed(target, message, now),
            timeout=aiohttp.ClientTimeout(total=within),
            allow_redirects=False,
        ) as answer:
            # More than this is nobody's business; the rest is cut off with the connection.
            said = await answer.content.read(_ENOUGH_BYTES)
            words = " ".join(said.decode("utf-8", "replace").split())
            printable = "".join(letter if letter.isprintable() else "?" for letter in words)
            return Answer(
                status=answer.status,
                words=redacted(target, printable)[:_MOST_WORDS],
                retry_after=_retry_after(answer.headers.get("retry-after", ""), now),
            )
    except TimeoutError:
        return Answer(status=None, words=f"no answer within {within:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(status=None, words=_reason(error))


def _retry_after(text: str, now: float) -> float:
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):  # What stands there is the target's choice.
        return 0.0


def _reason(error: Exception) -> str:
    """Return why nothing came back; never the error's own words, which may hold the address."""
    match getattr(error, "os_error", error):
        case socket.gaierror(strerror=str(words)):
            return words
        case ssl.SSLError(reason=words):
            return f"TLS failed: {words}"
        case OSError(errno=int(number)):
            return os.strerror(number)
        case _:
            return type(error).__name__

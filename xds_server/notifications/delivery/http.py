"""Post one message to one target, and report the result."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import aiohttp

from xds_server import __version__
from xds_server.notifications.messages import redact, signed_headers

if TYPE_CHECKING:
    from xds_server.notifications.messages import Message, Target

__all__ = ["DeliveryResult", "client_session", "post"]

_RETRYABLE: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_BODY_BYTES: Final = 4 << 10
_MAX_REASON_LENGTH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryResult:
    """The result of one attempt.

    `status` is the HTTP status, None if there was no response. `reason` is the start of the response body, or
    the error if there was no response. `retry_after` is the delay that the target requested, in seconds.
    """

    status: int | None
    reason: str
    retry_after: float = 0.0

    @property
    def delivered(self) -> bool:
        """Whether the target accepted the message."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def retryable(self) -> bool:
        """Whether another attempt may succeed."""
        return self.status is None or self.status in _RETRYABLE


def client_session() -> aiohttp.ClientSession:
    """Return a session for one target: it stores no cookies and decompresses no responses."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1, limit_per_host=1),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"shiftplane/{__version__}", "Accept-Encoding": "identity"},
        auto_decompress=False,
    )


async def post(
    session: aiohttp.ClientSession, target: Target, message: Message, *, now: float, timeout_seconds: float
) -> DeliveryResult:
    """Post a message once. Redirects are not followed, as they may lead to another server."""
    try:
        async with session.post(
            target.url.value,
            data=message.body,
            headers=signed_headers(target, message, now),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            allow_redirects=False,
        ) as response:
            # Closing the connection discards the rest of a longer body.
            body = await response.content.read(_MAX_BODY_BYTES)
            text = " ".join(body.decode("utf-8", "replace").split())
            printable = "".join(char if char.isprintable() else "?" for char in text)
            return DeliveryResult(
                status=response.status,
                reason=redact(target, printable)[:_MAX_REASON_LENGTH],
                retry_after=_retry_after(response.headers.get("retry-after", ""), now),
            )
    except TimeoutError:
        return DeliveryResult(status=None, reason=f"no response within {timeout_seconds:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return DeliveryResult(status=None, reason=_error_reason(error))


def _retry_after(text: str, now: float) -> float:
    """Return the seconds that a Retry-After header requests; 0 if it is neither a number nor a date."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _error_reason(error: Exception) -> str:
    """Return why there was no response, without the error's own message, which may contain the URL."""
    match getattr(error, "os_error", error):
        case socket.gaierror(strerror=str(reason)):
            return reason
        case ssl.SSLError(reason=reason):
            return f"TLS failed: {reason}"
        case OSError(errno=int(number)):
            return os.strerror(number)
        case _:
            return type(error).__name__

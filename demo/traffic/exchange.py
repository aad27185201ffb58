"""Sends one request as a user's client does, measures it, and checks the whole answer."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CHAT_PATH", "VARIANT_HEADER", "Exchange", "Failure", "Outgoing", "send"]

CHAT_PATH: Final = "/v1/chat/completions"
VARIANT_HEADER: Final = "x-shiftplane-variant"
_REQUEST_ID_HEADER: Final = "x-request-id"
_DONE: Final = b"[DONE]"
_LONGEST_DETAIL: Final = 200


class Failure(StrEnum):
    """Why an exchange failed."""

    STATUS = "status"
    """The status was not 200."""
    INVALID_JSON = "invalid_json"
    """The answer, or an event of the stream, is not the JSON of a chat answer."""
    STREAM_ERROR = "stream_error"
    """An event of the stream has no choices; usually it is an error object."""
    CUT_STREAM = "cut_stream"
    """The stream ended without its ``[DONE]``."""
    DISCONNECTED = "disconnected"
    """The connection closed before the answer was complete."""
    CONNECT = "connect"
    """The connection could not be opened."""
    TIMEOUT = "timeout"
    """The answer was not complete within the timeout."""
    UNANSWERED = "unanswered"
    """The measurement ended before the answer arrived, or before the request was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One request to send, with its user and prompt."""

    sequence: int
    user: str
    prompt: str
    stream: bool
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its result.

    ``began_at`` is in seconds since the epoch; times are in milliseconds since sending. ``first_byte_ms`` is
    the time to the first byte of the body (headers arrive earlier), None without a body. ``failure`` is None
    for a good answer.
    """

    sequence: int
    user: str
    prompt: str
    stream: bool
    began_at: float
    status: int | None
    variant: str | None
    request_id: str | None
    first_byte_ms: float | None
    total_ms: float
    failure: Failure | None
    detail: str

    @property
    def ok(self) -> bool:
        """Whether the user received a complete, well-formed answer."""
        return self.failure is None

    def document(self) -> dict[str, Any]:
        """Return the exchange as JSON."""
        return asdict(self)


@dataclass(slots=True)
class _Progress:
    """The measurements of an exchange so far, which are still available after an exception."""

    began: float = field(default_factory=time.perf_counter)
    first_byte_ms: float | None = None
    status: int | None = None
    variant: str | None = None
    request_id: str | None = None

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.began) * 1000


async def send(session: aiohttp.ClientSession, url: str, outgoing: Outgoing) -> Exchange:
    """Send one request and check its answer; failures are returned, only cancellation is raised."""
    began_at = time.time()
    progress = _Progress()
    try:
        async with session.post(url, data=outgoing.body, headers=outgoing.headers) as response:
            body = await _read(response, progress)
    except TimeoutError:
        failure, detail = Failure.TIMEOUT, "the answer was not complete within the timeout"
    except aiohttp.ClientConnectorError as error:
        failure, detail = Failure.CONNECT, str(error)
    except aiohttp.ClientError as error:
        begun = outgoing.stream and progress.status == 200
        failure = Failure.CUT_STREAM if begun else Failure.DISCONNECTED
        detail = f"{type(error).__name__}: {error}"
    else:
        failure_or_none, detail = _check(outgoing, progress.status, body)
        return _exchange(outgoing, began_at, progress, failure_or_none, detail)
    return _exchange(outgoing, began_at, progress, failure, detail)


async def _read(response: aiohttp.ClientResponse, progress: _Progress) -> bytes:
    progress.status = response.status
    progress.variant = response.headers.get(VARIANT_HEADER)
    progress.request_id = response.headers.get(_REQUEST_ID_HEADER)
    body = bytearray()
    async for chunk in response.content.iter_any():
        if progress.first_byte_ms is None:
            progress.first_byte_ms = progress.elapsed_ms()
        body += chunk
    return bytes(body)


def _check(outgoing: Outgoing, status: int | None, body: bytes) -> tuple[Failure | None, str]:
    """Return (failure or None, its detail)."""
    if status != 200:
        return Failure.STATUS, f"{status}: {body[:_LONGEST_DETAIL].decode('utf-8', 'replace')}"
    try:
        return _check_stream(body) if outgoing.stream else _check_plain(body)
    except ValueError as error:
        return Failure.INVALID_JSON, str(error)


def _check_plain(body: bytes) -> tuple[Failure | None, str]:
    document = json.loads(body)
    if not isinstance(document, dict) or not document.get("choices"):
        return Failure.INVALID_JSON, "the answer has no choices"
    return None, ""


def _check_stream(body: bytes) -> tuple[Failure | None, str]:
    done = False
    for line in body.splitlines():
        name, _, data = line.partition(b":")
        if name != b"data":
            continue
        data = data.strip()
        if data == _DONE:
            done = True
            continue
        event = json.loads(data)
        if not isinstance(event, dict) or "choices" not in event:
            return Failure.STREAM_ERROR, data[:_LONGEST_DETAIL].decode("utf-8", "replace")
    return (None, "") if done else (Failure.CUT_STREAM, "the stream ended without [DONE]")


def _exchange(
    outgoing: Outgoing, began_at: float, progress: _Progress, failure: Failure | None, detail: str
) -> Exchange:
    return Exchange(
        sequence=outgoing.sequence,
        user=outgoing.user,
        prompt=outgoing.prompt,
        stream=outgoing.stream,
        began_at=began_at,
        status=progress.status,
        variant=progress.variant,
        request_id=progress.request_id,
        first_byte_ms=progress.first_byte_ms,
        total_ms=progress.elapsed_ms(),
        failure=failure,
        detail=detail[:_LONGEST_DETAIL],
    )

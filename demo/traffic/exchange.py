"""One request as a user sees it: sent, timed, and judged good only when the whole answer is."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CHAT_PATH", "VARIANT_HEADER", "Ask", "Exchange", "Failure", "send"]

CHAT_PATH: Final = "/v1/chat/completions"
VARIANT_HEADER: Final = "x-shiftplane-variant"
_REQUEST_ID_HEADER: Final = "x-request-id"
_DONE: Final = b"[DONE]"
_LONGEST_DETAIL: Final = 200


class Failure(StrEnum):
    """Why an exchange was not good."""

    STATUS = "status"
    """Answered with another status than 200."""
    INVALID_JSON = "invalid_json"
    """The answer, or an event of the stream, is not the JSON of a chat answer."""
    STREAM_ERROR = "stream_error"
    """The stream carried an error object."""
    CUT_STREAM = "cut_stream"
    """The stream ended without its ``[DONE]``."""
    DISCONNECTED = "disconnected"
    """The connection broke before the answer was whole."""
    CONNECT = "connect"
    """No connection."""
    TIMEOUT = "timeout"
    """No whole answer in time."""
    UNANSWERED = "unanswered"
    """The time for the whole run was over before the answer, or before its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request to send."""

    sequence: int
    user: str
    prompt: str
    stream: bool
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and what came of it.

    ``began_at`` is in seconds since the epoch; times are in milliseconds from sending. ``first_byte_ms`` is
    the first byte of the body (headers come earlier), None when there was none. ``failure`` None means
    good.
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
        """Whether the user got a whole, well-formed answer."""
        return self.failure is None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(slots=True)
class _Progress:
    """What is known of an exchange so far, whatever interrupts it."""

    began: float = field(default_factory=time.perf_counter)
    first_byte_ms: float | None = None
    status: int | None = None
    variant: str | None = None
    request_id: str | None = None

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.began) * 1000


async def send(session: aiohttp.ClientSession, url: str, ask: Ask) -> Exchange:
    """Send one request and judge its answer; every failure is a value, only cancellation is raised."""
    began_at = time.time()
    progress = _Progress()
    try:
        async with session.post(url, data=ask.body, headers=ask.headers) as response:
            body = await _read(response, progress)
    except TimeoutError:
        failure, detail = Failure.TIMEOUT, "no whole answer in time"
    except aiohttp.ClientConnectorError as error:
        failure, detail = Failure.CONNECT, str(error)
    except aiohttp.ClientError as error:
        begun = ask.stream and progress.status == 200
        failure = Failure.CUT_STREAM if begun else Failure.DISCONNECTED
        detail = f"{type(error).__name__}: {error}"
    else:
        failure_or_none, detail = _judged(ask, progress.status, body)
        return _exchange(ask, began_at, progress, failure_or_none, detail)
    return _exchange(ask, began_at, progress, failure, detail)


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


def _judged(ask: Ask, status: int | None, body: bytes) -> tuple[Failure | None, str]:
    """(what is wrong or None, in words)."""
    if status != 200:
        return Failure.STATUS, f"{status}: {body[:_LONGEST_DETAIL].decode('utf-8', 'replace')}"
    try:
        return _judged_stream(body) if ask.stream else _judged_plain(body)
    except ValueError as error:
        return Failure.INVALID_JSON, str(error)


def _judged_plain(body: bytes) -> tuple[Failure | None, str]:
    document = json.loads(body)
    if not isinstance(document, dict) or not document.get("choices"):
        return Failure.INVALID_JSON, "the answer has no choices"
    return None, ""


def _judged_stream(body: bytes) -> tuple[Failure | None, str]:
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
    ask: Ask, began_at: float, progress: _Progress, failure: Failure | None, detail: str
) -> Exchange:
    return Exchange(
        sequence=ask.sequence,
        user=ask.user,
        prompt=ask.prompt,
        stream=ask.stream,
        began_at=began_at,
        status=progress.status,
        variant=progress.variant,
        request_id=progress.request_id,
        first_byte_ms=progress.first_byte_ms,
        total_ms=progress.elapsed_ms(),
        failure=failure,
        detail=detail[:_LONGEST_DETAIL],
    )

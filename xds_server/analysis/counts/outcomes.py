"""The outcome of a request: what Envoy reports of it, and the class that follows.

One request has one class, whatever its retries: *success*, *failure* (the backend's fault), *rejected* (the
backend refuses what the route would accept), *client error* (the request is at fault) or *abandoned* (the
client left). `docs/outcomes.md` is the same table for operators.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["UNREAD", "Outcome", "is_client_error"]


class Outcome(Enum):
    """How a response ended; the values are those of the tag `outcome` of Envoy's counters."""

    STATUS = "status"
    """No answer: the class follows from the status, or from its absence."""
    JSON = "json"
    """A JSON answer."""
    STREAM = "stream"
    """An event stream with its end mark."""
    ERROR = "error"
    """An error inside the answer."""
    INVALID = "invalid"
    """Declared as JSON and not parsable."""
    FORMAT = "format"
    """Another content type than the API has, such as HTML."""
    UNENDED = "unended"
    """An event stream that ended without its end mark."""
    EMPTY = "empty"
    """No body, or an event stream without an event."""
    ENCODED = "encoded"
    """Not read: the body is compressed."""
    UNSIZED = "unsized"
    """Not read: JSON without a declared length, or of a megabyte and more."""
    SHAPE = "shape"
    """Not read: JSON without any field that an answer of a known API has."""
    UNSUPPORTED = "unsupported"
    """Not read: this Envoy cannot read it, or reading is off."""
    OTHER = "other"
    """Not read: a format without text, such as audio."""


UNREAD: Final[frozenset[Outcome | None]] = frozenset(
    {Outcome.ENCODED, Outcome.UNSIZED, Outcome.SHAPE, Outcome.UNSUPPORTED, Outcome.OTHER}
)
"""The outcomes of answers that were not read, which are no evidence in either direction."""

_CLIENT_ERRORS: Final = frozenset(
    {"400", "411", "412", "413", "414", "415", "416", "417", "422", "428", "431", "499"}
)
"""The statuses with which a backend reports a fault of the request; other 4xx are its own refusals."""


def is_client_error(code: str) -> bool:
    """Return whether a status reports that the request itself is at fault."""
    return code in _CLIENT_ERRORS

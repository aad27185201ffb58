"""Why a response body could not be read."""

from __future__ import annotations

from enum import Enum

__all__ = ["UnreadReason"]


class UnreadReason(Enum):
    """Why a response body could not be read.

    For three reasons the body is at fault: the client of the API could not read it either (`is_defect`). For
    the others, the collector lacks what the client has.
    """

    ENCODING = "encoding"
    """The content encoding of the body is not supported."""

    TRUNCATED = "truncated"
    """The body is larger than the captured part."""

    TOO_LARGE = "too_large"
    """The decoded body exceeds the limits on size or ratio."""

    BINARY = "binary"
    """The body is audio, an image or other data that the collector cannot compare."""

    UNKNOWN_API = "unknown_api"
    """The body belongs to an API for which there is no parser."""

    CORRUPT = "corrupt"
    """The body is not valid in its content encoding, or the encoded data ends too early."""

    UNKNOWN_FORMAT = "unknown_format"
    """The body is no answer of its API: HTML, invalid JSON, or JSON of another shape."""

    MISSING = "missing"
    """The body is empty, but every answer of the API has a body."""

    @property
    def is_defect(self) -> bool:
        """Whether the client of the API could not read the body either."""
        return self in _DEFECTS


_DEFECTS = frozenset({UnreadReason.CORRUPT, UnreadReason.UNKNOWN_FORMAT, UnreadReason.MISSING})

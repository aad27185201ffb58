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
    """Its content encoding is not supported."""

    TRUNCATED = "truncated"
    """It is larger than the captured part."""

    TOO_LARGE = "too_large"
    """Decoded, it exceeds the limits on size or ratio."""

    BINARY = "binary"
    """It is audio, an image or other data that has no comparison."""

    UNKNOWN_API = "unknown_api"
    """It is the answer of an API without a parser."""

    CORRUPT = "corrupt"
    """It is not valid in its content encoding, or the encoded data ends too early."""

    UNKNOWN_FORMAT = "unknown_format"
    """It is no answer of its API: HTML, invalid JSON, or JSON of another shape."""

    MISSING = "missing"
    """It is empty, where the API always has a body."""

    @property
    def is_defect(self) -> bool:
        """Whether the client of the API could not read the body either."""
        return self in _DEFECTS


_DEFECTS = frozenset({UnreadReason.CORRUPT, UnreadReason.UNKNOWN_FORMAT, UnreadReason.MISSING})

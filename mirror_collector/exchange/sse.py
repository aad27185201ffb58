"""Parsing of server-sent events from a complete or truncated body.

Follows the event stream format of the HTML standard, except that only the ``data`` field is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["event_data"]

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def event_data(body: bytes, *, limit: int) -> Iterator[bytes]:
    """Yield the data of at most `limit` events, including an event that the end of the body truncates."""
    text = body.removeprefix(_BYTE_ORDER_MARK)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    count = 0
    for block in text.split(b"\n\n"):
        # A shortcut: nearly every event is a single line, and a stream has hundreds of events.
        data = block[6:] if block.startswith(b"data: ") and b"\n" not in block else _parse_block(block)
        if data is not None:
            yield data
            count += 1
            if count >= limit:
                return


def _parse_block(block: bytes) -> bytes | None:
    """Return the data of an event with any number of lines; None if it has no data."""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            data.append(b"")
    return b"\n".join(data) if data else None

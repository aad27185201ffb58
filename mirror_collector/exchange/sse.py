"""Server-sent events from a body that was captured whole or in part.

Follows the event stream format of the HTML standard as far as a recorded body needs it: field ``data`` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["events"]

_MARK: Final = b"\xef\xbb\xbf"


def events(body: bytes, *, limit: int) -> Iterator[bytes]:
    """Yield the data of at most `limit` events.

    An event the body breaks off in is yielded too: whether it is of use is for the caller to see.
    """
    text = body.removeprefix(_MARK)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    seen = 0
    for block in text.split(b"\n\n"):
        # Almost every event is one line, and a stream has hundreds of them.
        event = block[6:] if block.startswith(b"data: ") and b"\n" not in block else _lines(block)
        if event is not None:
            yield event
            seen += 1
            if seen >= limit:
                return


def _lines(block: bytes) -> bytes | None:
    """Return the data of an event of any form; None where it has none."""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            data.append(b"")
    return b"\n".join(data) if data else None

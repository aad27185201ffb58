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
    data: list[bytes] = []
    seen = 0
    for line in text.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            data.append(b"")
        elif not line and data:
            yield data[0] if len(data) == 1 else b"\n".join(data)
            seen += 1
            data = []
            if seen >= limit:
                return
    if data:
        yield b"\n".join(data)

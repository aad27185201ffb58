"""Server-sent events from a body that was captured whole or in part.

Follows the event stream format of the HTML standard as far as a recorded body needs it: field ``data`` only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["events"]

_LINE_END: Final = re.compile("\r\n|\n|\r")


def events(body: bytes, *, limit: int) -> Iterator[str]:
    """Yield the data of at most `limit` events.

    Invalid UTF-8 is replaced. An event the body breaks off in is yielded too: whether it is of use is for the
    caller to see.
    """
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    data: list[str] = []
    seen = position = 0
    while position < len(text) and seen < limit:
        end = _LINE_END.search(text, position)
        line = text[position : end.start() if end else len(text)]
        position = end.end() if end else len(text)
        if line.startswith("data"):
            field, _, value = line.partition(":")
            if field == "data":
                data.append(value.removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            seen += 1
            data = []
    if data and seen < limit:
        yield "\n".join(data)

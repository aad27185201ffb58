"""Events of a streamed answer, and the ways in which its usage can be placed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from demo.simulated.modes import FaultMode
from demo.simulated.wire import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DONE", "Event", "EventKind", "UsageStyle"]


class EventKind(Enum):
    """The place of an event in its stream, which decides when it is due and which faults change it."""

    OPENING = "opening"
    """Sent at once."""
    ROLE = "role"
    """Sent with the first token."""
    TOKEN = "token"  # noqa: S105 - no secret
    CLOSING = "closing"
    """Sent with the last token."""
    END = "end"
    """The end mark; an answer without it is incomplete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event: its name, if the API has names, and its data.

    ``document`` is the JSON of the data; if it is None, ``raw`` is sent as the data. ``token`` is the place
    of a token in its choice, from 0.
    """

    kind: EventKind
    document: Mapping[str, Any] | None = None
    raw: bytes = b""
    name: str | None = None
    token: int = 0

    @property
    def data(self) -> bytes:
        """The event as it is sent."""
        name = f"event: {self.name}\n".encode() if self.name else b""
        return b"%bdata: %b\n\n" % (name, self.raw if self.document is None else encode(self.document))


DONE: Final = Event(kind=EventKind.END, raw=b"[DONE]")
"""The end mark of chat and completions."""


class UsageStyle(Enum):
    """How an answer reports its token usage."""

    USUAL = "usual"
    NONE = "none"
    NULL = "null"
    SPLIT = "split"
    CUMULATIVE = "cumulative"

    @classmethod
    def of(cls, mode: FaultMode) -> UsageStyle:
        """Return the style of a fault; the usual one for faults that leave usage alone."""
        return _STYLES.get(mode, cls.USUAL)


_STYLES: Final = {
    FaultMode.NO_USAGE: UsageStyle.NONE,
    FaultMode.NULL_USAGE: UsageStyle.NULL,
    FaultMode.SPLIT_USAGE: UsageStyle.SPLIT,
    FaultMode.CUMULATIVE_USAGE: UsageStyle.CUMULATIVE,
}

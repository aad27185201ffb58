"""A credential that does not appear in logs."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Secret"]


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that prints as ``[redacted]``; `value` returns the text itself."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "[redacted]"

    __repr__ = __str__

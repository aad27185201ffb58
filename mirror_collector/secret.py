"""A secret that does not print itself."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Secret"]


@dataclass(frozen=True, slots=True)
class Secret:
    """Text that is only told to who asks for it by name."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "[redacted]"

    __repr__ = __str__

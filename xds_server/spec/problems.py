"""Problems of a spec: the location, what is wrong, and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Problem", "Severity"]


class Severity(Enum):
    """Severity of a problem. A spec with errors cannot be applied; warnings do not prevent it."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem. Lines and columns count from 1; `path` is a YAML path such as `spec.backends[1].name`."""

    severity: Severity
    file: str
    line: int
    col: int
    path: str
    message: str
    allowed: str

    def __str__(self) -> str:
        label = "warning: " if self.severity is Severity.WARNING else ""
        path = f"{self.path}: " if self.path else ""
        allowed = f"; {self.allowed}" if self.allowed else ""
        return f"{self.file}:{self.line}:{self.col}: {label}{path}{self.message}{allowed}"

"""What is wrong with a spec, where, and what is allowed instead."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Problem", "Severity"]


class Severity(Enum):
    """Errors keep a spec from being applied, warnings do not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem. Lines and columns count from 1; `path` is as in the YAML: `spec.backends[1].name`."""

    severity: Severity
    file: str
    line: int
    col: int
    path: str
    message: str
    allowed: str

    def __str__(self) -> str:
        label = "warning: " if self.severity is Severity.WARNING else ""
        where = f"{self.path}: " if self.path else ""
        allowed = f"; {self.allowed}" if self.allowed else ""
        return f"{self.file}:{self.line}:{self.col}: {label}{where}{self.message}{allowed}"

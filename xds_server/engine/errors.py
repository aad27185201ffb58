"""What the engine refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xds_server.spec import Problem

__all__ = [
    "CommandRefusedError",
    "EngineError",
    "ForbiddenError",
    "SpecRefusedError",
    "StaleError",
    "TooManyRefusalsError",
    "UnknownRouteError",
]


class EngineError(Exception):
    """Root of what the engine refuses.

    EngineError
    ├── UnknownRouteError     there is no such route
    ├── CommandRefusedError   the route is in a phase in which the command makes no sense
    ├── ForbiddenError        the caller may not do this to a route with these labels
    ├── StaleError            the route is no longer what the caller believes it is
    ├── TooManyRefusalsError  the caller was refused so often that no more of it is written down
    └── SpecRefusedError      the spec has problems; the running world stays as it was

    A WorldError of the compiler passes through: it would be a bug of ours, and nothing was published.
    """


class UnknownRouteError(EngineError):
    """There is no such route."""


class CommandRefusedError(EngineError):
    """The route is in a phase in which the command makes no sense; the message says what is allowed."""


class ForbiddenError(EngineError):
    """The caller may not do this to a route with these labels."""


class StaleError(EngineError):
    """The route is no longer what the caller believes it is; the message says how to find out."""


class TooManyRefusalsError(EngineError):
    """The caller was refused so often that this try is not written down; the next is in `wait` seconds."""

    def __init__(self, words: str, wait: float) -> None:
        self.wait = wait
        super().__init__(f"{words}; too many tries were refused, the next is heard in {wait:.0f} s")


class SpecRefusedError(EngineError):
    """The spec has problems; `problems` lists all of them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__(f"{len(problems)} problems")

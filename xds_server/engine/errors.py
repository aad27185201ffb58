"""The errors of the engine."""

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
    """Root of the engine's errors.

    EngineError
    ├── UnknownRouteError     there is no such route
    ├── CommandRefusedError   the route's phase does not allow the command, or the request does not fit
    ├── ForbiddenError        the caller may not change a route with these labels
    ├── StaleError            the spec changed since the caller read it
    ├── TooManyRefusalsError  the caller was refused too often; further attempts are not audited
    └── SpecRefusedError      the spec has problems; the live routes stay as they were

    An UnsafeConfigError of the compiler is not wrapped: it is a bug of this program; nothing was published.
    """


class UnknownRouteError(EngineError):
    """There is no such route."""


class CommandRefusedError(EngineError):
    """The route's phase does not allow the command, or the request does not fit the route."""


class ForbiddenError(EngineError):
    """The caller may not change a route with these labels."""


class StaleError(EngineError):
    """The spec changed since the caller read it, or the route was deleted (`exists` is False)."""

    def __init__(self, reason: str, *, exists: bool = True) -> None:
        self.exists = exists
        super().__init__(reason)


class TooManyRefusalsError(EngineError):
    """The caller was refused so often that this attempt is not audited; retry after `wait` seconds."""

    def __init__(self, reason: str, wait: float) -> None:
        self.wait = wait
        super().__init__(f"{reason}; too many attempts were refused; retry in {max(1, round(wait))} s")


class SpecRefusedError(EngineError):
    """The spec has problems; `problems` lists all of them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__(f"the spec file was rejected; number of problems: {len(problems)}")

"""What the HTTP API can be asked, as values: server and OpenAPI document are made of the same ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aiohttp import web

from xds_server.web.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from xds_server.access.identity import Role

__all__ = ["Answer", "Operation", "Parameter", "number", "registered"]

Schema: TypeAlias = dict[str, Any]

_LARGEST: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Something in the query, or with `header` in a header."""

    name: str
    about: str
    schema: Schema
    header: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What comes back when all goes well; no `schema` for a body that is not JSON."""

    about: str
    schema: Schema | None = None
    content_type: str = "application/json"
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that can be asked. `role` is what it takes at least, None for nothing."""

    method: str
    path: str
    name: str
    about: str
    role: Role | None
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    answer: Answer
    parameters: tuple[Parameter, ...] = ()
    body: dict[str, Schema] = field(default_factory=dict)
    """By content type; empty for none."""

    refusals: tuple[int, ...] = ()


def registered(operations: Iterable[Operation]) -> list[web.RouteDef]:
    """Return the routes of the server."""
    return [web.route(one.method, one.path, _with_known_parameters(one)) for one in operations]


def _with_known_parameters(
    operation: Operation,
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    known = {parameter.name for parameter in operation.parameters if not parameter.header}

    async def handler(request: web.Request) -> web.StreamResponse:
        strange = sorted(set(request.query) - known)
        if strange:
            allowed = ", ".join(sorted(known)) or "none"
            raise ProblemError(
                400, "bad_request", f"unknown in the query: {', '.join(strange)}; allowed: {allowed}"
            )
        for parameter in operation.parameters:
            if parameter.schema.get("enum") and parameter.name in request.query:
                _one_of(parameter, request.query[parameter.name])
        return await operation.handler(request)

    return handler


def _one_of(parameter: Parameter, given: str) -> None:
    allowed = parameter.schema["enum"]
    if given not in allowed:
        said = ", ".join(str(one) for one in allowed)
        raise ProblemError(400, "bad_request", f"{parameter.name} is {given!r}; allowed: {said}")


def number(
    request: web.Request, name: str, *, default: int | None, least: int = 1, most: int = _LARGEST
) -> int | None:
    """Return a whole number of the query.

    Raises:
        ProblemError: It is none, or out of bounds.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 17 and least <= int(text) <= most):
        raise ProblemError(
            400, "bad_request", f"{name} is {text[:40]!r}; a whole number from {least} to {most} is allowed"
        )
    return int(text)

"""Operations of the HTTP API as values; the server and the OpenAPI document are built from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aiohttp import web

from xds_server.web.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from xds_server.access.identity import Role

__all__ = ["Operation", "Parameter", "SuccessResponse", "http_routes", "query_number"]

Schema: TypeAlias = dict[str, Any]

_MAX_NUMBER: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A query parameter, or a header if `header` is set."""

    name: str
    description: str
    schema: Schema
    header: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessResponse:
    """The 200 response of an operation; `schema` is None if the body is not JSON."""

    description: str
    schema: Schema | None = None
    content_type: str = "application/json"
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation of the API. `role` is the least role it requires, None if it requires none."""

    method: str
    path: str
    name: str
    summary: str
    role: Role | None
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    response: SuccessResponse
    parameters: tuple[Parameter, ...] = ()
    body: dict[str, Schema] = field(default_factory=dict)
    """The schema of the request body by content type; empty if there is none."""

    error_statuses: tuple[int, ...] = ()


def http_routes(operations: Iterable[Operation]) -> list[web.RouteDef]:
    """Return the aiohttp routes of operations."""
    return [
        web.route(operation.method, operation.path, _with_checked_query(operation))
        for operation in operations
    ]


def _with_checked_query(
    operation: Operation,
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    known = {parameter.name for parameter in operation.parameters if not parameter.header}

    async def handler(request: web.Request) -> web.StreamResponse:
        unknown = sorted(set(request.query) - known)
        if unknown:
            allowed = ", ".join(sorted(known)) or "none"
            raise ProblemError(
                400, "bad_request", f"unknown query parameters: {', '.join(unknown)}; allowed: {allowed}"
            )
        for parameter in operation.parameters:
            if parameter.schema.get("enum") and parameter.name in request.query:
                _check_enum(parameter, request.query[parameter.name])
        return await operation.handler(request)

    return handler


def _check_enum(parameter: Parameter, given: str) -> None:
    values = parameter.schema["enum"]
    if given not in values:
        allowed = ", ".join(str(value) for value in values)
        raise ProblemError(400, "bad_request", f"{parameter.name} is {given!r}; allowed: {allowed}")


def query_number(
    request: web.Request, name: str, *, default: int | None, minimum: int = 1, maximum: int = _MAX_NUMBER
) -> int | None:
    """Return a whole number from the query; `default` if the query does not contain it.

    Raises:
        ProblemError: The value is not a whole number, or is out of range.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 17 and minimum <= int(text) <= maximum):
        raise ProblemError(
            400,
            "bad_request",
            f"{name} is {text[:40]!r}; allowed: a whole number from {minimum} to {maximum}",
        )
    return int(text)

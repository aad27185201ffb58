"""Error responses as problem details (RFC 9457); each detail names the cause and what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from xds_server.alarms import PayloadError
from xds_server.engine import (
    CommandRefusedError,
    ForbiddenError,
    SpecRefusedError,
    StaleError,
    TooManyRefusalsError,
    UnknownRouteError,
)
from xds_server.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from xds_server.spec import Problem

__all__ = ["CONTENT_TYPE", "ProblemError", "errors_as_problems", "problem", "read_json", "spec_problem"]

Body = TypeVar("Body", bound=BaseModel)

CONTENT_TYPE: Final = "application/problem+json"
_TITLES: Final = {
    "unknown_route": "Route not found",
    "refused": "Request not allowed now",
    "forbidden": "Not allowed",
    "unauthorized": "Not authenticated",
    "too_many_failures": "Too many failed attempts",
    "stale": "The spec does not have the given ETag",
    "bad_alarm": "Invalid alarm",
    "store_failed": "The store cannot be used",
    "bad_spec": "The spec has problems",
    "bad_request": "Invalid request",
    "key_reused": "The idempotency key was used for another request",
    "cross_site": "Cross-site request",
    "not_ready": "Not ready",
    "http": "Request failed",
    "unknown_token": "Token not found",
}


_ENGINE_ERRORS: Final[dict[type[Exception], tuple[int, str]]] = {
    UnknownRouteError: (404, "unknown_route"),
    CommandRefusedError: (409, "refused"),
    ForbiddenError: (403, "forbidden"),
    StaleError: (412, "stale"),
    PayloadError: (400, "bad_alarm"),
}


class ProblemError(Exception):
    """Ends the request with problem details."""

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers, self.more = headers, more


def problem(
    status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> web.Response:
    """Return an error response; `kind` identifies the problem for programs, `detail` explains it to users."""
    body = {
        "type": f"urn:shiftplane:problem:{kind}",
        "title": _TITLES.get(kind, kind.replace("_", " ").capitalize()),
        "status": status,
        "detail": detail,
        **more,
    }
    return web.Response(text=json.dumps(body), status=status, content_type=CONTENT_TYPE, headers=headers)


@web.middleware
async def errors_as_problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Convert the errors of handlers to problem details."""
    try:
        return await handler(request)
    except ProblemError as error:
        return problem(error.status, error.kind, error.detail, headers=error.headers, **error.more)
    except TooManyRefusalsError as error:
        retry_after = {"retry-after": str(max(1, round(error.wait)))}
        return problem(429, "too_many_failures", str(error), headers=retry_after)
    except SpecRefusedError as error:
        count = len(error.problems)
        detail = f"the spec has {count} problem{'s' if count != 1 else ''}; nothing was changed"
        return problem(422, "bad_spec", detail, problems=[spec_problem(found) for found in error.problems])
    except tuple(_ENGINE_ERRORS) as error:
        status, kind = _ENGINE_ERRORS[type(error)]
        return problem(status, kind, str(error))
    except StoreError as error:
        reads = request.method in {"GET", "HEAD"}
        detail = str(error) if reads else f"nothing was changed: {error}"
        return problem(503, "store_failed", detail, headers={"retry-after": "1"})
    except web.HTTPException as error:
        if error.status < 400:
            raise
        allow = {"allow": error.headers["allow"]} if "allow" in error.headers else None
        return problem(error.status, "http", error.text or error.reason, headers=allow)


def spec_problem(found: Problem) -> dict[str, Any]:
    """Return a problem of a spec as JSON values."""
    return {
        "severity": found.severity.name.lower(),
        "file": found.file,
        "line": found.line,
        "col": found.col,
        "path": found.path,
        "message": found.message,
        "allowed": found.allowed,
    }


async def read_json(request: web.Request, model: type[Body]) -> Body:
    """Return the body of a request; an empty body stands for an empty object.

    Raises:
        ProblemError: The body does not match the model; the detail lists all mismatches.
    """
    raw = await request.read()
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        mismatches = [
            f"{'.'.join(str(part) for part in found['loc']) or 'the body'}: {found['msg']}"
            for found in error.errors()
        ]
        raise ProblemError(400, "bad_request", "; ".join(mismatches)) from error

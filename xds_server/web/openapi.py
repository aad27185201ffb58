"""The API's own description (OpenAPI 3.1), made from the operations the server is made of (pure)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from xds_server.web.problems import CONTENT_TYPE
from xds_server.web.schemas import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.web.operations import Operation, Parameter

__all__ = ["document"]

_REFUSALS: Final = {
    400: "The request is not what it must be.",
    401: "Nobody logged in.",
    403: "Whoever asks may not do it.",
    404: "There is no such thing.",
    409: "The route does not allow it now.",
    412: "The route was changed meanwhile.",
    413: "The body is too large.",
    422: "The spec has problems, or the idempotency key stands for another request.",
    429: "Too many wrong secrets came from that address, or too many tries of that caller were refused.",
    503: "The store cannot be used; nothing was changed.",
}
_OF_ALL: Final = (401, 403, 429, 503)
_IN_PATH: Final = re.compile(r"\{(\w+)\}")
_PATTERNS: Final = {"name": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "id": "^[0-9a-f]{12}$"}


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """Return the description of a server that answers these operations."""
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "shiftplane",
            "version": version,
            "summary": "Replace one LLM by another under live traffic.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": COMPONENTS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "shiftplane token create"}
            },
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.about,
        "parameters": [*_in_path(one.path), *(_parameter(parameter) for parameter in one.parameters)],
        "responses": _responses(one),
    }
    if one.body:
        content = {kind: {"schema": schema} for kind, schema in one.body.items()}
        found["requestBody"] = {"content": content, "required": "application/yaml" in content}
    if one.role is not None:
        found["security"] = [{"token": []}]
        found["description"] = f"Takes the role {one.role.word}."
    return found


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": _PATTERNS[name], "maxLength": 63},
        }
        for name in _IN_PATH.findall(path)
    ]


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": "header" if one.header else "query",
        "description": one.about,
        "schema": one.schema,
    }


def _responses(one: Operation) -> dict[str, Any]:
    good: dict[str, Any] = {"description": one.answer.about}
    good["content"] = {
        one.answer.content_type: {"schema": {} if one.answer.schema is None else one.answer.schema}
    }
    if one.answer.headers:
        good["headers"] = {name: {"schema": {"type": "string"}} for name in one.answer.headers}
    refusals = {400, *one.refusals, *(_OF_ALL if one.role is not None else ())}
    if one.body:
        refusals |= {413}
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {"200": good} | {
        str(status): {"description": _REFUSALS[status], "content": {CONTENT_TYPE: problem}}
        for status in sorted(refusals)
    }

"""Build the API's OpenAPI 3.1 document from the operations that the server is built from (pure)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from xds_server.web.problems import CONTENT_TYPE
from xds_server.web.schemas import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.web.operations import Operation, Parameter

__all__ = ["document"]

_ERRORS: Final = {
    400: "The request is invalid.",
    401: "The request has no valid token; for alarms, no valid secret or signature.",
    403: "The caller may not perform this operation.",
    404: "The resource does not exist.",
    409: "The operation is not allowed, for example in the current phase of the route; see `detail`.",
    412: "The spec does not have the ETag in If-Match.",
    413: "The body is larger than 8 MiB.",
    422: "The spec has problems, or the idempotency key was used for another request.",
    429: "Too many authentications from the address (IPv6: the /64 network) failed, or too many requests of "
    "the caller were refused.",
    503: "The store cannot be used or is not loaded yet; a request that would change data changed nothing.",
}
_SECURITY: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token that `shiftplane token create` created.",
}
_ERRORS_OF_ROLES: Final = (401, 403, 429, 503)
_PATH_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_PATTERNS: Final = {"name": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "id": "^[0-9a-f]{12}$"}


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of these operations."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
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
            "securitySchemes": {"token": _SECURITY},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(operation.path),
            *(_parameter(parameter) for parameter in operation.parameters),
        ],
        "responses": _responses(operation),
    }
    if operation.body:
        content = {kind: {"schema": schema} for kind, schema in operation.body.items()}
        found["requestBody"] = {"content": content, "required": "application/yaml" in content}
    if operation.role is not None:
        found["security"] = [{"token": []}]
        found["description"] = f"Requires the role {operation.role.text}."
    return found


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": _PATTERNS[name], "maxLength": 63},
        }
        for name in _PATH_PARAMETER.findall(path)
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "header" if parameter.header else "query",
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _responses(operation: Operation) -> dict[str, Any]:
    response = operation.response
    success: dict[str, Any] = {"description": response.description}
    success["content"] = {
        response.content_type: {"schema": {} if response.schema is None else response.schema}
    }
    if response.headers:
        success["headers"] = {name: {"schema": {"type": "string"}} for name in response.headers}
    errors = {400, *operation.error_statuses, *(_ERRORS_OF_ROLES if operation.role is not None else ())}
    if operation.body:
        errors |= {413}
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {"200": success} | {
        str(status): {"description": _ERRORS[status], "content": {CONTENT_TYPE: problem}}
        for status in sorted(errors)
    }

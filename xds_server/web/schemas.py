"""JSON schemas of API responses; those of routes, proxies, events and costs come from the views."""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter

from xds_server.view import CostView, EventView, ProxyView, RouteView
from xds_server.web.operations import Parameter

__all__ = [
    "APPLIED",
    "AUDIT_PAGE",
    "COMPONENTS",
    "COST_PAGE",
    "DELETED",
    "EVENT_PAGE",
    "NEW_TOKEN",
    "PROBLEM",
    "PROXY_PAGE",
    "REVOKED",
    "ROUTE",
    "ROUTE_PAGE",
    "TOKENS",
    "VERIFIED",
    "WHO_AM_I",
    "list_schema",
    "page_parameters",
]

_REF: Final = "#/components/schemas/{model}"
_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "number"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_NEXT: Final = {
    "type": ["integer", "null"],
    "description": "The value of `before` for the next page; null at the end.",
}


def _components() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in (RouteView, ProxyView, EventView, CostView):
        schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template=_REF)
        found.update(schema.pop("$defs", {}))
        found[kind.__name__] = schema
    found["Problem"] = PROBLEM
    found["AuditEntry"] = _ENTRY
    found["Token"] = _TOKEN
    return found


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def list_schema(name: str, model: str, **more: Any) -> dict[str, Any]:
    """Return the schema of an object that contains a list.

    `name` is the property with the list, `model` the component of its items, and `more` are other properties.
    """
    return _object(**{name: {"type": "array", "items": {"$ref": _REF.format(model=model)}}, **more})


def page_parameters(maximum: int) -> tuple[Parameter, ...]:
    """Return the parameters of a list that is read in pages, starting with the newest page."""
    return (
        Parameter(
            name="limit",
            description="Maximum number of items to return.",
            schema={"type": "integer", "minimum": 1, "maximum": maximum, "default": 100},
        ),
        Parameter(
            name="before",
            description="Return items before this number: `next` of the previous page.",
            schema={"type": "integer", "minimum": 1, "maximum": 2**53},
        ),
    )


_SPEC_PROBLEM: Final = _object(
    severity=_TEXT,
    file=_TEXT,
    line=_COUNT,
    col=_COUNT,
    path=_TEXT,
    message=_TEXT,
    allowed=_TEXT,
)
PROBLEM: Final = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "problems": {"type": "array", "items": _SPEC_PROBLEM},
    },
    "required": ["type", "title", "status", "detail"],
}
_ENTRY: Final = _object(
    seq=_COUNT,
    at=_NUMBER,
    actor=_TEXT,
    action=_TEXT,
    route=_TEXT,
    reason=_TEXT,
    outcome={"type": "string", "enum": ["done", "refused", "imported"]},
    detail=_TEXT,
    via=_TEXT,
    source=_TEXT,
    before={"type": ["object", "null"]},
    after={"type": ["object", "null"]},
    key=_TEXT,
    digest=_TEXT,
    previous=_TEXT,
    hash=_TEXT,
)
_TOKEN: Final = _object(
    id=_TEXT,
    name=_TEXT,
    role={"type": "string", "enum": ["viewer", "operator", "admin"]},
    routes={"type": "object", "additionalProperties": _TEXT},
    created_at=_NUMBER,
    created_by=_TEXT,
    expires_at=_NUMBER,
    last_used_at={"type": ["number", "null"]},
    first={"type": "boolean"},
)
_GRANT: Final = _object(role=_TEXT, routes={"type": "object", "additionalProperties": _TEXT})
ROUTE: Final = {"$ref": _REF.format(model="RouteView")}
ROUTE_PAGE: Final = list_schema("routes", "RouteView", next={"type": ["string", "null"]})
PROXY_PAGE: Final = list_schema("proxies", "ProxyView", next={"type": ["string", "null"]})
EVENT_PAGE: Final = list_schema("events", "EventView", next=_NEXT)
AUDIT_PAGE: Final = list_schema("entries", "AuditEntry", next=_NEXT)
TOKENS: Final = list_schema("tokens", "Token")
NEW_TOKEN: Final = _object(token={"$ref": _REF.format(model="Token")}, text=_TEXT)
REVOKED: Final = _object(revoked=_TEXT)
DELETED: Final = _object(deleted=_TEXT)
WHO_AM_I: Final = _object(name=_TEXT, actor=_TEXT, via=_TEXT, grants={"type": "array", "items": _GRANT})
VERIFIED: Final = _object(
    holds={"type": "boolean"},
    entries=_COUNT,
    breaks={"type": "array", "items": _object(seq=_COUNT, words=_TEXT)},
)
APPLIED: Final = _object(
    applied={
        "type": "array",
        "items": _object(
            name=_TEXT,
            action={"type": "string", "enum": ["created", "updated", "unchanged"]},
            generation=_COUNT,
        ),
    },
    warnings={"type": "array", "items": _SPEC_PROBLEM},
)
COST_PAGE: Final = _object(days={"type": "array", "items": {"type": "object"}})
COMPONENTS: Final = _components()

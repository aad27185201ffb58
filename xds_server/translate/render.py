"""Encoded resources → plain JSON values, for display and golden files (pure)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import betterproto2
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.message_pool import default_message_pool

if TYPE_CHECKING:
    from xds_server.xds.snapshot import Resource

__all__ = ["render"]


def render(resource: Resource) -> dict[str, Any]:
    """Return a resource as JSON with field names as in Envoy's documentation.

    Known extensions are unpacked; fields with their default value are omitted.
    """
    rendered = _unpacked(AnyMessage.parse(resource.body))
    rendered.pop("@type")
    return rendered


def _unpacked(wrapped: AnyMessage) -> dict[str, Any]:
    cls = default_message_pool.url_to_type.get(wrapped.type_url)
    if cls is None:
        return {"@type": wrapped.type_url, "value": base64.b64encode(wrapped.value).decode()}
    return {"@type": wrapped.type_url, **_fields(cls.parse(wrapped.value))}


def _fields(message: betterproto2.Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    plain = json.loads(message.to_json(casing=betterproto2.Casing.SNAKE)) if _is_leaf(message) else None
    if plain is not None:
        return plain if isinstance(plain, dict) else {"value": plain}
    blank = type(message)()
    meta: Any = type(message)._betterproto  # type: ignore[arg-type, unused-ignore] # noqa: SLF001
    for name in meta.meta_by_field_name:
        value = getattr(message, name)
        if value is not None and value != getattr(blank, name):
            found[name] = _value(value)
    return found


def _is_leaf(message: betterproto2.Message) -> bool:
    return type(message).__name__ in {"Struct", "Value", "ListValue"}


def _value(value: object) -> Any:
    match value:
        case AnyMessage():
            return _unpacked(value)
        case betterproto2.Message():
            return _fields(value)
        case list():
            return [_value(item) for item in value]
        case dict():
            return {str(key): _value(item) for key, item in sorted(value.items())}
        case betterproto2.Enum():
            return value.name
        case bytes():
            return base64.b64encode(value).decode()
        case bool() | int() | float() | str():
            return value
        case _:
            return f"{value.total_seconds():g}s" if hasattr(value, "total_seconds") else str(value)

"""The tools that a request offers, to check the tool calls of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirror_collector.exchange import Body

__all__ = ["OfferedTools", "offered_tools"]

OfferedTools: TypeAlias = "Mapping[str, frozenset[str]]"
"""Names of the required arguments by name of the tool."""

_HINTS: Final = (b'"tools"', b'"functions"')
_NESTED: Final = ("function", "custom")
_SCHEMAS: Final = ("parameters", "input_schema")


def offered_tools(request: Body) -> OfferedTools:
    """Return the tools that a chat, Responses or Messages request offers.

    Empty if it offers none, or if the captured request is not valid JSON, for example because it is cut off.
    """
    if not any(hint in request.data for hint in _HINTS):
        return {}
    try:
        value = orjson.loads(request.data)
    except ValueError:
        return {}
    tools: dict[str, frozenset[str]] = {}
    for name in ("tools", "functions"):
        listed = value.get(name) if isinstance(value, dict) else None
        for tool in listed if isinstance(listed, list) else ():
            if isinstance(tool, dict):
                _add_tool(tools, tool)
    return tools


def _add_tool(tools: dict[str, frozenset[str]], tool: dict[str, Any]) -> None:
    for key in _NESTED:
        if isinstance(tool.get(key), dict):
            tool = tool[key]
    if isinstance(name := tool.get("name"), str):
        schemas = [tool[key] for key in _SCHEMAS if isinstance(tool.get(key), dict)]
        required = schemas[0].get("required") if schemas else None
        names = required if isinstance(required, list) else ()
        tools[name] = frozenset(one for one in names if isinstance(one, str))

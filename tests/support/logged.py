"""The log events of a program, read from its source: name, level and fields."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LogEvent", "log_events"]

ROOT = Path(__file__).resolve().parents[2]
_LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
}
_SPREAD: Final[Mapping[str, tuple[str, ...]]] = {
    "stream.log_fields": ("node", "group", "peer"),
    "log_fields": ("route", "metric"),
    "self._unlogged_drops": ("one per reason",),
}
"""Fields that are passed as one mapping, by the expression in the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One log event."""

    name: str
    level: str
    fields: tuple[str, ...]


def log_events(program: str) -> list[LogEvent]:
    """Return the events of a program by name, except events of the route history, whose names are data."""
    found = {
        (one.name, one.level, one.fields): one
        for file in sorted((ROOT / program).rglob("*.py"))
        for one in _events(ast.parse(file.read_text(encoding="utf-8")))
    }
    return [found[key] for key in sorted(found)]


def _events(tree: ast.Module) -> Iterator[LogEvent]:
    for scope in ast.walk(tree):
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(scope):
                if isinstance(node, ast.Call) and _is_log(node) and isinstance(node.args[0], ast.Constant):
                    assert isinstance(node.func, ast.Attribute)
                    yield LogEvent(
                        name=str(node.args[0].value),
                        level=_LEVELS[node.func.attr],
                        fields=tuple(_fields(node, scope)),
                    )


def _is_log(node: ast.Call) -> bool:
    match node.func:
        case ast.Attribute(attr=level, value=logger) if level in _LEVELS and node.args:
            return ast.unparse(logger) in {"log", "self._log", "structlog.get_logger()"}
        case _:
            return False


def _fields(node: ast.Call, scope: ast.AST) -> Iterator[str]:
    for keyword in node.keywords:
        if keyword.arg is not None:
            yield "exception" if keyword.arg == "exc_info" else keyword.arg
            continue
        name = ast.unparse(keyword.value)
        yield from _SPREAD.get(name) or _assigned(name, scope)
    assert isinstance(node.func, ast.Attribute)
    if node.func.attr == "exception":
        yield "exception"


def _assigned(name: str, scope: ast.AST) -> Iterator[str]:
    for node in ast.walk(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=given)], value=ast.Dict(keys=keys)) if given == name:
                yield from (str(key.value) for key in keys if isinstance(key, ast.Constant))
                return
    raise AssertionError(f"unknown fields in **{name}")

"""Every event that a program logs, read from its code: name, level and fields."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Logged", "logged"]

ROOT = Path(__file__).resolve().parents[2]
_LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
}
_SPREAD: Final[Mapping[str, tuple[str, ...]]] = {
    "stream.who": ("node", "group", "peer"),
    "log_fields": ("route", "metric"),
    "self._unlogged_drops": ("one per reason",),
}
"""Fields that are handed over together, by what the code calls them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One event."""

    name: str
    level: str
    fields: tuple[str, ...]


def logged(program: str) -> list[Logged]:
    """Return the events of a program by name, but for those of routes' history: their names are data."""
    found = {
        (one.name, one.level, one.fields): one
        for file in sorted((ROOT / program).rglob("*.py"))
        for one in _of(ast.parse(file.read_text(encoding="utf-8")))
    }
    return [found[key] for key in sorted(found)]


def _of(tree: ast.Module) -> Iterator[Logged]:
    for scope in ast.walk(tree):
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(scope):
                if isinstance(node, ast.Call) and _is_log(node) and isinstance(node.args[0], ast.Constant):
                    assert isinstance(node.func, ast.Attribute)
                    yield Logged(
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
    raise AssertionError(f"nobody knows the fields in **{name}")

"""Generate the reference of spec problems from the golden invalid specs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xds_server.spec import RouteSpec, Severity, check_together, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec import Problem

__all__ = ["problem_tables"]

_FOLDER: Final = Path(__file__).resolve().parents[2] / "golden" / "bad_specs"
_FIELDS: Final = {field.alias for field in RouteSpec.model_fields.values()}
_WHOLE: Final = "The whole file"


def problem_tables() -> str:
    """Return a table per section of a spec, with each message and the allowed values."""
    tables: dict[str, dict[tuple[str, str, str], None]] = {}
    for problem in _problems():
        row = (_without_index(problem.path), _message(problem), problem.allowed)
        tables.setdefault(_section(problem.path), {}).setdefault(row)
    return "\n\n".join(_table(title, sorted(tables[title])) for title in sorted(tables, key=_order))


def _problems() -> Iterator[Problem]:
    for path in sorted(_FOLDER.glob("*.yaml")):
        loaded = load(path.read_text(encoding="utf-8"), file=path.name)
        yield from loaded.problems
        yield from check_together([loaded])


def _without_index(path: str) -> str:
    """Remove list indices from a path."""
    return re.sub(r"\[\d+\]", "[]", path)


def _section(path: str) -> str:
    parts = re.split(r"[.\[]", path)
    if not parts[0] or parts[0].startswith('"'):
        return _WHOLE
    return f"spec.{parts[1]}" if parts[0] == "spec" and {*parts[1:2]} & _FIELDS else parts[0]


def _order(title: str) -> tuple[bool, bool, str]:
    return title != _WHOLE, title.startswith("spec"), title.lower()


def _message(problem: Problem) -> str:
    return ("warning: " if problem.severity is Severity.WARNING else "") + problem.message


def _table(title: str, rows: list[tuple[str, str, str]]) -> str:
    heading = title if title == _WHOLE else f"`{title}`"
    lines = [f"## {heading}", "", "| field | problem | allowed |", "|---|---|---|"]
    lines += [f"| {_code(field)} | {_cell(message)} | {_cell(allowed)} |" for field, message, allowed in rows]
    return "\n".join(lines)


def _code(field: str) -> str:
    return f"`{field}`" if field else ""


def _cell(text: str) -> str:
    escaped = re.sub(r"([*_|\\`\[\]{}])", r"\\\1", text)
    return " ".join(escaped.replace("<", "&lt;").replace(">", "&gt;").split())

"""Messages about bad specs, from the golden files: every kind of problem and the allowed values."""

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
_WHOLE: Final = "The file as a whole"


def problem_tables() -> str:
    """Return a table per part of a spec with its messages and the allowed values."""
    tables: dict[str, dict[tuple[str, str, str], None]] = {}
    for problem in _problems():
        row = (_place(problem.path), _said(problem), problem.allowed)
        tables.setdefault(_part(problem.path), {}).setdefault(row)
    return "\n\n".join(_table(title, sorted(tables[title])) for title in sorted(tables, key=_order))


def _problems() -> Iterator[Problem]:
    for path in sorted(_FOLDER.glob("*.yaml")):
        loaded = load(path.read_text(encoding="utf-8"), file=path.name)
        yield from loaded.problems
        yield from check_together([loaded])


def _place(path: str) -> str:
    """Remove list indexes."""
    return re.sub(r"\[\d+\]", "[]", path)


def _part(path: str) -> str:
    parts = re.split(r"[.\[]", path)
    if not parts[0] or parts[0].startswith('"'):
        return _WHOLE
    return f"spec.{parts[1]}" if parts[0] == "spec" and {*parts[1:2]} & _FIELDS else parts[0]


def _order(title: str) -> tuple[bool, bool, str]:
    return title != _WHOLE, title.startswith("spec"), title.lower()


def _said(problem: Problem) -> str:
    return ("warning: " if problem.severity is Severity.WARNING else "") + problem.message


def _table(title: str, rows: list[tuple[str, str, str]]) -> str:
    heading = title if title == _WHOLE else f"`{title}`"
    lines = [f"## {heading}", "", "| where | what is said | what is allowed |", "|---|---|---|"]
    lines += [f"| {_code(place)} | {_cell(said)} | {_cell(allowed)} |" for place, said, allowed in rows]
    return "\n".join(lines)


def _code(place: str) -> str:
    return f"`{place}`" if place else ""


def _cell(text: str) -> str:
    escaped = re.sub(r"([*_|\\`\[\]{}])", r"\\\1", text)
    return " ".join(escaped.replace("<", "&lt;").replace(">", "&gt;").split())

"""Rules of the code's structure that no linter checks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 400
PROGRAMS = ("xds_server", "mirror_collector")


def modules(*roots: str) -> list[Path]:
    return sorted(
        path for root in roots for path in (ROOT / root).rglob("*.py") if not path.stem.endswith("_pb2")
    )


@pytest.mark.parametrize("path", modules(*PROGRAMS), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_at_most_400_lines_or_a_reason(path: Path) -> None:
    text = path.read_text()
    if len(text.splitlines()) > MAX_LINES:
        docstring = ast.get_docstring(ast.parse(text)) or ""
        assert "in one file because" in docstring.lower(), "split it, or give the reason in its docstring"


@pytest.mark.parametrize("root", ["xds_server", "mirror_collector"])
def test_the_composition_root_assigns_no_attributes_of_other_objects(root: str) -> None:
    tree = ast.parse((ROOT / root / "app.py").read_text())
    assigned = [
        ast.unparse(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) != "self"
    ]
    assert assigned == []


def test_the_parts_of_the_engine_do_not_inherit_from_each_other() -> None:
    parts = {
        node.name: [ast.unparse(base) for base in node.bases]
        for path in modules("xds_server/engine")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    inherited = {
        name: bases
        for name, bases in parts.items()
        if not name.endswith("Error") and any(base in parts for base in bases)
    }
    assert inherited == {}


def test_no_callback_is_assigned_after_construction() -> None:
    """A part receives its callbacks as constructor arguments; nothing sets `other.on_…` later."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(target)}"
        for path in modules(*PROGRAMS)
        if "translate" not in path.parts  # there, attributes are fields of Envoy's messages
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute)
        and target.attr.startswith("on_")
        and ast.unparse(target.value) != "self"
    ]
    assert found == []

"""Golden files: spec in, rendered resources out, one file per resource type."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["CASES", "GOLDEN", "Case", "cases", "dump"]

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = GOLDEN / "in"


@dataclass(frozen=True, slots=True)
class Case:
    """One spec file and where its resources are kept."""

    name: str
    text: str

    @property
    def folder(self) -> Path:
        return GOLDEN / "out" / self.name


def cases() -> list[Case]:
    return [Case(path.stem, path.read_text(encoding="utf-8")) for path in sorted(CASES.glob("*.yaml"))]


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, so that a change in one shows as a change of one line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)

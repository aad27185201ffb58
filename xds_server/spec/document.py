"""Parse YAML text to plain values with the position of each key and value.

Only `true` and `false` are booleans and only decimal numbers are numbers, so that a backend can be named `no`
and a salt can be `0x10`. No other module of the package uses the YAML library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

__all__ = ["MISSING", "Loc", "Position", "Source", "YamlError", "parse"]

Loc: TypeAlias = tuple[str | int, ...]

MISSING: Final = "null"
_MAX_CHARS: Final = 1 << 20
_MAX_NODES: Final = 50_000
_MAX_DEPTH: Final = 40


@dataclass(frozen=True, slots=True)
class Position:
    """A line and a column, both counted from 1."""

    line: int
    col: int


@dataclass(frozen=True, slots=True)
class YamlError:
    """A YAML error: invalid syntax, a duplicate key or an unsupported feature."""

    position: Position
    loc: Loc
    message: str
    allowed: str


@dataclass(frozen=True, slots=True)
class Source:
    """One YAML document: its values, the position of each key and value, its text and its errors."""

    values: Any
    positions: dict[Loc, Position]
    text: str
    line: int
    errors: tuple[YamlError, ...]

    def position(self, loc: Loc) -> Position:
        """Return the position of `loc`, or of its nearest parent that has one."""
        while loc not in self.positions and loc:
            loc = loc[:-1]
        return self.positions.get(loc, Position(self.line, 1))


class _Loader(yaml.SafeLoader):
    """SafeLoader with fewer implicit types."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"(?:true|false)", "tf"),
    ("tag:yaml.org,2002:null", r"(?:~|null|)", "~n\0"),
    ("tag:yaml.org,2002:int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("tag:yaml.org,2002:float", r"-?(?:0|[1-9][0-9]*)\.[0-9]+", "-0123456789"),
):
    _Loader.add_implicit_resolver(
        _tag, re.compile(f"^{_pattern}$"), [*_first, ""] if "null" in _tag else list(_first)
    )
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def parse(text: str) -> tuple[Source, ...]:
    """Return the documents of a YAML text.

    Parsing stops at a syntax error, which is returned as the last document, one with an error and no values.
    """
    if len(text) > _MAX_CHARS:
        return (_unparsable(Position(1, 1), "the file is larger than 1 MiB", "split it into several files"),)
    documents: list[Source] = []
    loader = None
    try:
        loader = _Loader(text)
        while loader.check_node():
            if (node := loader.get_node()) is not None:
                documents.append(_Converter(text).convert(node))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = Position(1, 1) if mark is None else Position(mark.line + 1, mark.column + 1)
        reason = " ".join(str(error.problem or error.context).split())
        hint = 'quote text that begins with *: "*.example.com"' if "alias" in str(error.context) else ""
        hint = "indent with spaces instead of tabs" if r"'\t'" in reason else hint
        hint = (
            "check the indentation of this line and of the lines before it" if "<block " in reason else hint
        )
        documents.append(_unparsable(position, f"invalid YAML: {reason}", hint))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        message = f"invalid YAML: the character U+{int(error.character):04X} is not allowed"
        documents.append(_unparsable(Position(line, column), message, "remove the character"))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else "nested too deeply"
        documents.append(_unparsable(Position(1, 1), f"invalid YAML: {reason}", ""))
    finally:
        if loader is not None:
            loader.dispose()
    return tuple(documents)


def _unparsable(position: Position, message: str, allowed: str) -> Source:
    return Source(None, {}, "", position.line, (YamlError(position, (), message, allowed),))


class _LimitError(Exception):
    pass


class _Converter:
    """Convert one document to a `Source`. Each use of an alias counts toward the limit on nodes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._positions: dict[Loc, Position] = {}
        self._errors: list[YamlError] = []
        self._nodes = 0

    def convert(self, node: yaml.Node) -> Source:
        begin, end = node.start_mark, node.end_mark
        try:
            values = self._value(node, ())
        except _LimitError as error:
            position = _position(begin)
            return Source(None, {}, "", position.line, (YamlError(position, (), str(error), ""),))
        start = self._text.rfind("\n", 0, begin.index) + 1
        text = self._text[start : end.index].rstrip() + "\n"
        return Source(values, self._positions, text, begin.line + 1, tuple(self._errors))

    def _value(self, node: yaml.Node, loc: Loc) -> Any:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise _LimitError(f"the document has more than {_MAX_NODES} values; each use of an alias counts")
        if len(loc) > _MAX_DEPTH:
            raise _LimitError(f"the document is nested deeper than {_MAX_DEPTH} levels")
        self._positions.setdefault(loc, _position(node.start_mark))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*loc, number)) for number, item in enumerate(node.value)]
        return self._scalar(node, loc)

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        seen: set[str] = set()
        for key_node, value_node in node.value:
            position = _position(key_node.start_mark)
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._merge(value_node, loc, mapping)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._errors.append(
                    YamlError(position, loc, "a key is a list or a mapping", "expected text as the key")
                )
                continue
            key = str(key_node.value)
            if key in seen:
                first = self._positions[*loc, key]
                self._errors.append(
                    YamlError(
                        position,
                        (*loc, key),
                        f"duplicate key, first defined in line {first.line}",
                        "remove one of them",
                    )
                )
                continue
            seen.add(key)
            self._positions[*loc, key] = position
            mapping[key] = self._value(value_node, (*loc, key))
        return mapping

    def _merge(self, node: yaml.Node, loc: Loc, mapping: dict[str, Any]) -> None:
        if not isinstance(node, yaml.MappingNode):
            position = _position(node.start_mark)
            self._errors.append(
                YamlError(
                    position, loc, "<< does not refer to a mapping", "use an alias of a mapping: <<: *NAME"
                )
            )
            return
        for key, value in self._mapping(node, loc).items():
            mapping.setdefault(key, value)

    def _scalar(self, node: yaml.Node, loc: Loc) -> Any:
        text = str(node.value)
        match node.tag.rsplit(":", 1)[-1]:
            case "null":
                return None
            case "bool":
                return text == "true"
            case "int":
                return int(text) if len(text) < 19 else text
            case "float":
                return float(text)
            case "str":
                return text
            case _:
                position = _position(node.start_mark)
                self._errors.append(YamlError(position, loc, f"unsupported tag {node.tag}", "remove the tag"))
                return text


def _position(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)

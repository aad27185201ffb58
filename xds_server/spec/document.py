"""YAML text → plain values that remember where they stood.

Plain words mean what they look like: only `true` and `false` are booleans, only decimal numbers are numbers,
so that a backend may be called `no` and a salt may be `0x10`. Beyond this module nobody sees YAML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

__all__ = ["MISSING", "Fault", "Loc", "Place", "Source", "parse"]

Loc: TypeAlias = tuple[str | int, ...]

MISSING: Final = "null"
_MOST_CHARS: Final = 1 << 20
_MOST_NODES: Final = 50_000
_MOST_DEPTH: Final = 40


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column, both from 1."""

    line: int
    col: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the YAML itself."""

    place: Place
    loc: Loc
    message: str
    allowed: str


@dataclass(frozen=True, slots=True)
class Source:
    """One YAML document: its values, the place of each key and value, its text and its faults."""

    values: Any
    places: dict[Loc, Place]
    text: str
    line: int
    faults: tuple[Fault, ...]

    def place(self, loc: Loc) -> Place:
        """Return where `loc` stands, or the nearest thing around it that stands somewhere."""
        while loc not in self.places and loc:
            loc = loc[:-1]
        return self.places.get(loc, Place(self.line, 1))


class _Loader(yaml.SafeLoader):
    """SafeLoader with few implicit types."""


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
    """Return the documents of a YAML text; what cannot be read at all is one document with its fault."""
    if len(text) > _MOST_CHARS:
        return (_broken(Place(1, 1), "the file is larger than 1 MiB", "split it into several files"),)
    found: list[Source] = []
    loader = None
    try:
        loader = _Loader(text)
        while loader.check_node():
            if (node := loader.get_node()) is not None:
                found.append(_Reader(text).read(node))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)
        words = " ".join(str(error.problem or error.context).split())
        hint = (
            'text that begins with * needs quotes: "*.example.com"' if "alias" in str(error.context) else ""
        )
        found.append(_broken(place, f"not YAML: {words}", hint))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        said = f"not YAML: the character U+{int(error.character):04X} may not stand in a text"
        found.append(_broken(Place(line, column), said, ""))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        words = str(error).splitlines()[0] if str(error) else "nested too deeply"
        found.append(_broken(Place(1, 1), f"not YAML: {words}", ""))
    finally:
        if loader is not None:
            loader.dispose()
    return tuple(found)


def _broken(place: Place, message: str, allowed: str) -> Source:
    return Source(None, {}, "", place.line, (Fault(place, (), message, allowed),))


class _TooMuchError(Exception):
    pass


class _Reader:
    """Reads one document; a repeated alias is read again, within a bound on all nodes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._places: dict[Loc, Place] = {}
        self._faults: list[Fault] = []
        self._nodes = 0

    def read(self, node: yaml.Node) -> Source:
        begin, end = node.start_mark, node.end_mark
        try:
            values = self._value(node, ())
        except _TooMuchError as error:
            place = _place(begin)
            return Source(None, {}, "", place.line, (Fault(place, (), str(error), ""),))
        start = self._text.rfind("\n", 0, begin.index) + 1
        text = self._text[start : end.index].rstrip() + "\n"
        return Source(values, self._places, text, begin.line + 1, tuple(self._faults))

    def _value(self, node: yaml.Node, loc: Loc) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise _TooMuchError(f"more than {_MOST_NODES} values, aliases counted each time")
        if len(loc) > _MOST_DEPTH:
            raise _TooMuchError(f"nested deeper than {_MOST_DEPTH} levels")
        self._places.setdefault(loc, _place(node.start_mark))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*loc, number)) for number, item in enumerate(node.value)]
        return self._scalar(node, loc)

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        found: dict[str, Any] = {}
        given: set[str] = set()
        for key_node, value_node in node.value:
            place = _place(key_node.start_mark)
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._merge(value_node, loc, found)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._faults.append(Fault(place, loc, "a key is not a word", "keys must be plain words"))
                continue
            key = str(key_node.value)
            if key in given:
                first = self._places[*loc, key]
                self._faults.append(
                    Fault(place, (*loc, key), f"is given twice, first in line {first.line}", "give it once")
                )
                continue
            given.add(key)
            self._places[*loc, key] = place
            found[key] = self._value(value_node, (*loc, key))
        return found

    def _merge(self, node: yaml.Node, loc: Loc, found: dict[str, Any]) -> None:
        if not isinstance(node, yaml.MappingNode):
            place = _place(node.start_mark)
            self._faults.append(Fault(place, loc, "<< does not name a mapping", "use an alias of a mapping"))
            return
        for key, value in self._mapping(node, loc).items():
            found.setdefault(key, value)

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
                place = _place(node.start_mark)
                self._faults.append(Fault(place, loc, f"has the tag {node.tag}", "leave the tag away"))
                return text


def _place(mark: yaml.Mark) -> Place:
    return Place(mark.line + 1, mark.column + 1)

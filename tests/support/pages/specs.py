"""The reference of route specs, generated from the model: fields, defaults, units, allowed values.

Descriptions are the docstrings of the fields in `xds_server.spec`. To find the allowed values of a field, an
invalid value is validated, and the error message is used.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from xds_server.spec import DeploymentStrategy, Endpoint, ModelRoute, Stickiness, scalars
from xds_server.spec.analysis import Limit
from xds_server.spec.targeting import Clause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

__all__ = ["KIND_OF", "field_tables", "kinds", "sentences"]

# Names of the types in `scalars` in the tables.
KIND_OF: Final = {
    "Alpha": "number",
    "Amount": "number",
    "BackendName": "name",
    "CaptureSize": "size",
    "Claim": "claim",
    "Concurrency": "whole number",
    "Dns": "host and port",
    "Duration": "duration",
    "EndpointText": "address",
    "Fraction": "number",
    "GrowthFactor": "percentage",
    "HeaderName": "header name",
    "Host": "host",
    "Limit": "comparison",
    "Long": "duration",
    "Name": "name",
    "PairCount": "whole number",
    "Path": "path",
    "Percent": "percentage",
    "Plain": "text",
    "Prose": "long text",
    "Ratio": "number",
    "RequestSize": "size",
    "Retries": "whole number",
    "RouteName": "name",
    "Samples": "whole number",
    "Share": "percentage",
    "Short": "duration",
    "Threshold": "whole number",
    "Tokens": "whole number",
    "Url": "URL",
}
_VALUES: Final[dict[str, Any]] = {name: getattr(scalars, name, Limit) for name in KIND_OF}
# By validator, because an alias inside another type may carry further annotations.
_ALIASES: Final = {value.__metadata__[0].func: name for name, value in _VALUES.items()}
_REFUSED: Final = (None, 0, "0s", "1B")
_SHARED: Final[dict[type[BaseModel], str]] = {Stickiness: "A stickiness", Clause: "A clause"}
"""Parts that stand in several places, described once."""


@dataclass(slots=True)
class _Section:
    part: type[BaseModel]
    places: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return _SHARED.get(self.part, self.places[0])


def field_tables() -> str:
    """Return a section per part of the YAML in order, each with a table of its fields."""
    return "\n\n".join(
        part
        for root, title in ((ModelRoute, "ModelRoute"), (DeploymentStrategy, "DeploymentStrategy"))
        for part in (f"## {title}", *_sections(root))
    )


def kinds() -> str:
    """Return a table of value types, each with the linter's description of allowed values."""
    rows: dict[str, str] = {}
    for name, kind in KIND_OF.items():
        generic = _allowed(name)[0]
        rows.setdefault(kind, _without_range(generic))
    lines = ["| kind | what is allowed |", "|---|---|"]
    return "\n".join(lines + [f"| {kind} | {_cell(rows[kind])} |" for kind in sorted(rows, key=str.lower)])


@cache
def sentences(part: type[BaseModel]) -> dict[str, str]:
    """Return the description of each field: its docstring in the source, inherited fields included."""
    found: dict[str, str] = {}
    for one in reversed(part.__mro__):
        if not (issubclass(one, BaseModel) and one.__module__.startswith("xds_server.")):
            continue
        body = ast.parse(inspect.getsource(one)).body[0]
        assert isinstance(body, ast.ClassDef)
        for above, below in zip(body.body, body.body[1:], strict=False):
            match above, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
                case _:
                    pass
    return found


def _sections(root: type[BaseModel]) -> Iterator[str]:
    sections: dict[type[BaseModel], _Section] = {}
    _collect(root, "", sections)
    own = [one for one in sections.values() if one.part not in _SHARED]
    shared = [one for one in sections.values() if one.part in _SHARED and root is ModelRoute]
    for section in (*own, *shared):
        if section.places[0]:
            yield f"### {section.title}"
        yield _intro(section)
        yield _table(section.part, section.places[0])


def _collect(part: type[BaseModel], place: str, sections: dict[type[BaseModel], _Section]) -> None:
    known = part in sections
    sections.setdefault(part, _Section(part)).places.append(place)
    if known:
        return
    for name, info in part.model_fields.items():
        below = f"{place}.{info.alias or name}".lstrip(".")
        for inner, suffix in _parts(_hints(part)[name], ""):
            _collect(inner, below + suffix, sections)


def _parts(hint: Any, suffix: str) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the models inside a type with the suffix of their path: `[]` or `.NAME`."""
    if isinstance(hint, type) and issubclass(hint, BaseModel) and hint is not Endpoint:
        yield hint, suffix
        return
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        yield from _parts(inner[0], suffix)
    elif origin is tuple:
        yield from _parts(inner[0], f"{suffix}[]")
    elif origin is dict:
        yield from _parts(inner[1], f"{suffix}.NAME")
    else:
        for one in inner:
            yield from _parts(one, suffix)


def _intro(section: _Section) -> str:
    said = " ".join(_camel(inspect.cleandoc(section.part.__doc__ or "")).split())
    if len(section.places) > 1:
        said += " Stands in " + ", ".join(f"`{place}`" for place in section.places) + "."
    return said


def _table(part: type[BaseModel], place: str) -> str:
    lines = ["| field | kind | default | meaning |", "|---|---|---|---|"]
    said = sentences(part)
    for name, info in part.model_fields.items():
        hint = _hints(part)[name]
        alias = info.alias or name
        kind = _kind(hint, f"{place}.{alias}".lstrip("."))
        lines.append(f"| `{alias}` | {kind} | {_default(info, hint)} | {_cell(_camel(said[name]))} |")
    return "\n".join(lines)


@cache
def _hints(part: type[BaseModel]) -> dict[str, Any]:
    return typing.get_type_hints(part, include_extras=True)


def _kind(hint: Any, place: str) -> str:
    if (name := _alias(hint)) is not None:
        return ", ".join([f"[{KIND_OF[name]}](#kinds-of-values)", *_ranges(name)])
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if hint is bool:
        return "`true` or `false`"
    if hint is str:
        return "text"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        title = _SHARED.get(hint, place)
        return f"[mapping](#{_slug(title)})"
    if origin is Annotated:
        limit = f", {_most(hint)}" if _most(hint) else ""
        return _kind(inner[0], place) + limit
    if origin is tuple:
        return f"list of {_kind(inner[0], f'{place}[]')}"
    if origin is dict:
        return f"by {_kind(inner[0], place)}: {_kind(inner[1], f'{place}.NAME')}"
    return " or ".join(_kind(one, place) for one in inner if one is not type(None))


def _alias(hint: Any) -> str | None:
    """Return the name of a value type, or None if it has none."""
    metadata = getattr(hint, "__metadata__", (None,))
    return _ALIASES.get(getattr(metadata[0], "func", None))


def _most(hint: Any) -> str:
    """Return the allowed number of entries of a list or mapping with limits."""
    limits = [one for extra in hint.__metadata__ for one in getattr(extra, "metadata", ())]
    most = next((one.max_length for one in limits if hasattr(one, "max_length")), None)
    least = next((one.min_length for one in limits if hasattr(one, "min_length")), None)
    said = [f"at least {least}" if least else "", f"at most {most}" if most else ""]
    return ", ".join(one for one in said if one)


@cache
def _allowed(name: str) -> tuple[str, ...]:
    """Return the allowed values from the error for an invalid value."""
    found: list[str] = []
    for value in _REFUSED:
        try:
            TypeAdapter(_VALUES[name]).validate_python(value)
        except ValidationError as error:
            found.append(str(error.errors()[0]["ctx"]["allowed"]))
    return tuple(dict.fromkeys(found))


def _ranges(name: str) -> list[str]:
    """Return the limits of a field beyond those of its value type."""
    generic, *narrow = _allowed(name)
    said = [re.sub(r"^a percentage | (is|are) allowed$", "", one) for one in narrow]
    if found := re.fullmatch(r"a (?:whole )?number (from \S+ to \S+) is allowed", generic):
        said.append(found[1])
    return said


def _without_range(words: str) -> str:
    return re.sub(r"(number) from \S+ to \S+", r"\1", words)


def _default(info: FieldInfo, hint: Any) -> str:
    if info.is_required():
        return "needed"
    value = info.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, BaseModel):
        said = value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return f"`{_flow(said)}`" if said else "see there"
    return f"`{_flow(TypeAdapter(hint).dump_python(value, mode='json'))}`"


def _flow(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(_flow(inner) for inner in value) + "]"
        case "*":
            return '"*"'
        case _:
            return str(value)


def _camel(text: str) -> str:
    """Return the YAML spelling of a field name."""
    return re.sub(
        r"`([a-z]+(?:_[a-z0-9]+)+)`",
        lambda found: "`" + re.sub("_(.)", lambda c: c[1].upper(), found[1]) + "`",
        text,
    )


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def _cell(text: str) -> str:
    outside = re.split(r"(`[^`]*`)", text.replace("|", "\\|"))
    return "".join(one if one.startswith("`") else one.replace("*", "\\*") for one in outside)

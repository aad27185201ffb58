"""Generate the reference of route specs from the model: fields, kinds, defaults and limits.

The descriptions are the docstrings of the fields in `xds_server.spec`. The limits come from the error
messages of the fields, which state the allowed values when a field is validated with an invalid value.
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

__all__ = ["KIND_OF", "descriptions", "field_tables", "kinds"]

# The names of the types of `scalars` in the tables.
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
    "DurationMin1s": "duration",
    "Name": "name",
    "PairCount": "whole number",
    "Path": "path",
    "Percent": "percentage",
    "ShortText": "text",
    "LongText": "long text",
    "Ratio": "number",
    "RequestSize": "size",
    "RetryCount": "whole number",
    "RouteName": "name",
    "SampleCount": "whole number",
    "Share": "percentage",
    "DurationMin10ms": "duration",
    "Threshold": "whole number",
    "Tokens": "whole number",
    "Url": "URL",
}
_VALUES: Final[dict[str, Any]] = {name: getattr(scalars, name, Limit) for name in KIND_OF}
# Keyed by validator, because an alias inside another type can carry further metadata.
_ALIASES: Final = {value.__metadata__[0].func: name for name, value in _VALUES.items()}
_INVALID: Final = (None, 0, "0s", "1B")
_SHARED: Final[dict[type[BaseModel], str]] = {Stickiness: "A stickiness", Clause: "A clause"}
"""Models that several fields use; they are described once."""


@dataclass(slots=True)
class _Section:
    model: type[BaseModel]
    paths: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return _SHARED.get(self.model, self.paths[0])


def field_tables() -> str:
    """Return a section with a table of fields per mapping of the YAML, in the order of the YAML."""
    return "\n\n".join(
        section
        for root, title in ((ModelRoute, "ModelRoute"), (DeploymentStrategy, "DeploymentStrategy"))
        for section in (f"## {title}", *_sections(root))
    )


def kinds() -> str:
    """Return a table of the kinds of values, each with the notation that the linter expects."""
    rows: dict[str, str] = {}
    for name, kind in KIND_OF.items():
        generic = _allowed(name)[0]
        rows.setdefault(kind, _without_range(generic).removeprefix("expected "))
    lines = ["| kind | notation |", "|---|---|"]
    return "\n".join(lines + [f"| {kind} | {_cell(rows[kind])} |" for kind in sorted(rows, key=str.lower)])


@cache
def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring of each field of a model, including inherited fields."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
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
    start = "" if root is ModelRoute else root.__name__  # The two kinds have fields of the same name.
    _collect(root, start, sections)
    single = [one for one in sections.values() if one.model not in _SHARED]
    shared = [one for one in sections.values() if one.model in _SHARED and root is ModelRoute]
    for section in (*single, *shared):
        if section.model is not root:
            yield f"### {section.title}"
        yield _intro(section)
        yield _table(section.model, section.paths[0])


def _collect(model: type[BaseModel], path: str, sections: dict[type[BaseModel], _Section]) -> None:
    known = model in sections
    sections.setdefault(model, _Section(model)).paths.append(path)
    if known:
        return
    for name, info in model.model_fields.items():
        below = f"{path}.{info.alias or name}".lstrip(".")
        for inner, suffix in _models(_hints(model)[name], ""):
            _collect(inner, below + suffix, sections)


def _models(hint: Any, suffix: str) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the models inside a type with the suffix of their path: `[]` or `.NAME`."""
    if isinstance(hint, type) and issubclass(hint, BaseModel) and hint is not Endpoint:
        yield hint, suffix
        return
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        yield from _models(inner[0], suffix)
    elif origin is tuple:
        yield from _models(inner[0], f"{suffix}[]")
    elif origin is dict:
        yield from _models(inner[1], f"{suffix}.NAME")
    else:
        for one in inner:
            yield from _models(one, suffix)


def _intro(section: _Section) -> str:
    text = " ".join(_camel(inspect.cleandoc(section.model.__doc__ or "")).split())
    if len(section.paths) > 1:
        text += " Used in " + ", ".join(f"`{path}`" for path in section.paths) + "."
    return text


def _table(model: type[BaseModel], path: str) -> str:
    lines = ["| field | kind | default | description |", "|---|---|---|---|"]
    meaning = descriptions(model)
    for name, info in model.model_fields.items():
        hint = _hints(model)[name]
        alias = info.alias or name
        kind = _kind(hint, f"{path}.{alias}".lstrip("."))
        lines.append(f"| `{alias}` | {kind} | {_default(info, hint)} | {_cell(_camel(meaning[name]))} |")
    return "\n".join(lines)


@cache
def _hints(model: type[BaseModel]) -> dict[str, Any]:
    return typing.get_type_hints(model, include_extras=True)


def _kind(hint: Any, path: str) -> str:
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
        title = _SHARED.get(hint, path)
        return f"[mapping](#{_slug(title)})"
    if origin is Annotated:
        limit = f", {_length(hint)}" if _length(hint) else ""
        return _kind(inner[0], path) + limit
    if origin is tuple:
        return f"list of {_kind(inner[0], f'{path}[]')}"
    if origin is dict:
        return f"mapping of {_kind(inner[0], path)}: {_kind(inner[1], f'{path}.NAME')}"
    return " or ".join(_kind(one, path) for one in inner if one is not type(None))


def _alias(hint: Any) -> str | None:
    """Return the name of a type of `scalars`, or None for another type."""
    metadata = getattr(hint, "__metadata__", (None,))
    return _ALIASES.get(getattr(metadata[0], "func", None))


def _length(hint: Any) -> str:
    """Return the allowed number of entries of a list or mapping with limits."""
    limits = [one for extra in hint.__metadata__ for one in getattr(extra, "metadata", ())]
    most = next((one.max_length for one in limits if hasattr(one, "max_length")), None)
    least = next((one.min_length for one in limits if hasattr(one, "min_length")), None)
    match least, most:
        case None, None:
            return ""
        case None, _:
            return f"at most {most} entries"
        case _, None:
            return f"at least {least} {'entry' if least == 1 else 'entries'}"
        case _:
            return f"{least} to {most} entries"


@cache
def _allowed(name: str) -> tuple[str, ...]:
    """Return the allowed values that a type states when it is validated with invalid values."""
    found: list[str] = []
    for value in _INVALID:
        try:
            TypeAdapter(_VALUES[name]).validate_python(value)
        except ValidationError as error:
            found.append(str(error.errors()[0]["ctx"]["allowed"]))
    return tuple(dict.fromkeys(found))


def _ranges(name: str) -> list[str]:
    """Return the limits of a type that are narrower than those of its kind."""
    generic, *narrow = _allowed(name)
    ranges = [re.sub(r"^expected (a (percentage|size) )?", "", one) for one in narrow]
    if found := re.fullmatch(r"expected a (?:whole )?number (from \S+ to \S+)", generic):
        ranges.append(found[1])
    return ranges


def _without_range(text: str) -> str:
    return re.sub(r"(number) from \S+ to \S+", r"\1", text)


def _default(info: FieldInfo, hint: Any) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, BaseModel):
        values = value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return f"`{_flow(values)}`" if values else "defaults"
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
    """Convert the names of fields to their notation in YAML."""
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

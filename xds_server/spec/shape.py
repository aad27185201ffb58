"""Convert plain values to a model, with a readable message for every error in their shape."""

from __future__ import annotations

import difflib
import re
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from xds_server.spec.model import ModelRoute
from xds_server.spec.scalars import YAML_WORDS
from xds_server.spec.strategies import DeploymentStrategy
from xds_server.spec.targeting import BACKEND, SPLIT

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from xds_server.spec.document import Loc

__all__ = ["KINDS", "RESERVED", "Finding", "check_shape"]

M = typing.TypeVar("M", bound=BaseModel)

KINDS: Final[dict[str, type[ModelRoute | DeploymentStrategy]]] = {
    "ModelRoute": ModelRoute,
    "DeploymentStrategy": DeploymentStrategy,
}

# Fields planned for later versions. "Unknown field" would make a user search for a typo.
RESERVED: Final = frozenset(
    {
        "service",
        "systemFrom",
    }
)

_NOT_IN_YAML: Final = frozenset({"[key]", BACKEND, SPLIT})


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem at `loc` of the YAML, before it has a file and a position."""

    loc: Loc
    message: str
    allowed: str
    warning: bool = False


def check_shape(values: Any, model: type[M]) -> tuple[M | None, tuple[Finding, ...]]:
    """Return the model of `values`, or None and all errors in their shape."""
    try:
        return model.model_validate(values), ()
    except ValidationError as error:
        details = error.errors(include_url=False)
    inner = {detail["loc"][:-1] for detail in details}
    # Pydantic also reports a list with only invalid entries as too short; that error is redundant.
    relevant = [
        d
        for d in details
        if not (d["type"] == "too_short" and any(i[: len(d["loc"])] == d["loc"] for i in inner))
    ]
    return None, tuple(_explain(detail, model) for detail in relevant)


def _explain(detail: ErrorDetails, root: type[BaseModel]) -> Finding:
    loc: Loc = tuple(part for part in detail["loc"] if part not in _NOT_IN_YAML)
    message, allowed = _message(detail, loc, root)
    return Finding(loc, message, allowed)


def _message(  # noqa: C901, PLR0912 - one case per kind
    detail: ErrorDetails, loc: Loc, root: type[BaseModel]
) -> tuple[str, str]:
    context = detail.get("ctx", {})
    found = detail["input"]
    match detail["type"]:
        case "shiftplane":
            return str(context["message"]), str(context["allowed"])
        case "union_tag_not_found":
            return (
                f"must be the name of a backend or a split, found {_shown(found)}",
                "expected a name such as v2, or {weights: {v1: 80, v2: 20}}",
            )
        case "missing":
            return "required field is missing", _add(loc)
        case "extra_forbidden":
            return _unknown(loc, _fields_at(loc[:-1], root), root)
        case "literal_error" if loc == ("kind",):
            return _literal(found, list(KINDS))
        case "literal_error":
            return _literal(found, re.findall(r"'([^']*)'", str(context["expected"])))
        case "too_short":
            return "must not be empty", "add at least one entry"
        case "too_long":
            return "has too many entries", f"at most {context['max_length']} are allowed"
        case "bool_type" | "bool_parsing":
            return f"must be a boolean, found {_shown(found)}", "allowed values: true, false"
        case "string_type":
            hint = "quote numbers and booleans to make them text"
            hint += YAML_WORDS if isinstance(found, bool) else ""
            return f"must be text, found {_shown(found)}", hint
        case "tuple_type" | "list_type":
            return f"must be a list, found {_shown(found)}", "expected a list such as [a, b]"
        case "dict_type":
            return f"must be a mapping, found {_shown(found)}", "expected a mapping such as {NAME: VALUE}"
        case "model_type" | "model_attributes_type":
            return f"must be a mapping, found {_shown(found)}", _listed(_fields_at(loc, root))
        case _:
            return f"{_shown(found)} is not allowed here", ""


def _add(loc: Loc) -> str:
    return f"add {_REQUIRED.get(str(loc[-1]), str(loc[-1]))}"


_REQUIRED: Final = {
    "apiVersion": "apiVersion: shiftplane.dev/v1alpha1",
    "kind": "kind: ModelRoute or kind: DeploymentStrategy",
    "backends": 'a list of backends, such as [{name: v1, dns: "vllm-v1:8000"}]',
    "stable": "the name of the backend that serves users now",
    "steps": "a list of setWeight and pause steps",
    "percentage": "a percentage of requests, such as 10",
    "group": "the name of a group of proxies",
    "proxies": "proxies: {group: NAME}",
    "metadata": "metadata: {name: NAME}",
    "attribute": "the name of an entry of spec.attributes",
    "name": "a name",
    "spec": "a mapping with the desired state",
    "growthFactor": "the percentage of users in the first step",
    "deploymentDuration": "the total duration of the steps, such as 20m",
    "randomizationUnit": "the attribute that identifies a user",
    "variants": "a list such as [{backend: v2, weight: 20}]",
    "backend": "the name of a backend",
    "weight": "a percentage of users",
    "weights": "percentages by name, such as {v1: 80, v2: 20}",
    "stickiness": "stickiness: {attribute: NAME}",
    "clauses": "a list such as [{attribute: tier, op: in, values: [gold]}]",
    "op": "an operator such as in, startsWith or exists",
    "values": "a list of texts",
    "serve": "the name of a backend, or in a rule a split such as {weights: {v1: 80, v2: 20}}",
    "versions": "a mapping such as {v1: {system: TEXT}}",
    "version": "the name of a version",
    "system": "the text of the prompt",
    "issuer": "the iss claim of the tokens",
    "jwks": "the keys that verify the tokens: {url: URL} or {inline: JSON}",
}


def _unknown(loc: Loc, fields: tuple[str, ...], root: type[BaseModel]) -> tuple[str, str]:
    key = str(loc[-1])
    if loc[-2:-1] == ("blueGreen",) and key in {"active", "preview"}:
        return "unknown field", "set the backends in spec.stable and spec.candidate"
    if key in RESERVED:
        return "is not supported in this version", _listed(fields)
    near = difflib.get_close_matches(key, fields, n=1, cutoff=0.6)
    folded = {field.lower(): field for field in fields}
    guess = folded.get(key.lower().replace("_", "").replace("-", "")) or (near[0] if near else None)
    hint = f"; did you mean {guess!r}?" if guess else ""
    places = () if guess or loc[:1] != ("spec",) else _places(key, root)
    if len(places) == 1:
        here = ".".join(part for part in loc[:-1] if isinstance(part, str))
        return f"is not a field of {here}; it belongs to {places[0]}", _listed(fields)
    return f"unknown field{hint}", _listed(fields)


def _literal(found: Any, expected: list[str]) -> tuple[str, str]:
    near = difflib.get_close_matches(found, expected, n=1, cutoff=0.75) if isinstance(found, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    plural = "s" if len(expected) > 1 else ""
    return f"invalid value {_shown(found)}{hint}", f"allowed value{plural}: {', '.join(expected)}"


def _listed(fields: tuple[str, ...]) -> str:
    return f"allowed fields: {', '.join(fields)}" if fields else ""


def _shown(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return repr(value if len(value) <= 60 else value[:57] + "...")
        case _:
            return str(value)


def _fields_at(loc: Loc, root: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of the fields that are allowed at a location of the YAML."""
    annotation: Any = root
    for part in loc:
        annotation = _inside(annotation, part)
        if annotation is None:
            return ()
    models = [a for a in _options(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
    return (
        tuple(sorted(field.alias or name for name, field in models[0].model_fields.items())) if models else ()
    )


@cache
def _places(key: str, root: type[BaseModel]) -> tuple[str, ...]:
    """Return the paths of all mappings that have a field of this name."""
    return tuple(_walk(key, root, "", ()))


def _walk(key: str, model: type[BaseModel], path: str, above: tuple[type[BaseModel], ...]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        alias = field.alias or name
        if alias == key and path:
            yield path
        for inner, suffix in _models(field.annotation):
            if inner not in above:
                yield from _walk(key, inner, f"{path}.{alias}{suffix}".lstrip("."), (*above, model))


def _models(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Return the models in a field's annotation, each with its path suffix, such as `[]` in a list."""
    for option in _options(annotation):
        match typing.get_origin(option), typing.get_args(option):
            case origin, (first, *_) if origin is tuple:
                yield from ((model, f"[]{suffix}") for model, suffix in _models(first))
            case origin, (_, value) if origin is dict:
                yield from ((model, f".NAME{suffix}") for model, suffix in _models(value))
            case _ if isinstance(option, type) and issubclass(option, BaseModel):
                yield option, ""
            case _:
                continue


def _inside(annotation: Any, part: str | int) -> Any:
    for option in _options(annotation):
        origin = typing.get_origin(option)
        if origin is tuple and isinstance(part, int):
            return typing.get_args(option)[0]
        if origin is dict and isinstance(part, str):
            return typing.get_args(option)[1]
        if isinstance(option, type) and issubclass(option, BaseModel):
            for name, field in option.model_fields.items():
                if part in {field.alias, name}:
                    return field.annotation
    return None


@cache
def _options(annotation: Any) -> tuple[Any, ...]:
    """Return the types in an annotation: the members of a union, without None and `Annotated`."""
    return tuple(_flat(annotation))


def _flat(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _flat(typing.get_args(annotation)[0])
    elif origin in {typing.Union, type(int | str)}:
        for option in typing.get_args(annotation):
            yield from _flat(option)
    elif annotation is not type(None):
        yield annotation

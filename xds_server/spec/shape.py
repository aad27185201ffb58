"""Values → model; every way in which the shape is wrong, in words people use."""

from __future__ import annotations

import difflib
import re
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from xds_server.spec.model import ModelRoute
from xds_server.spec.strategies import DeploymentStrategy
from xds_server.spec.targeting import BACKEND, SPLIT

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from xds_server.spec.document import Loc

__all__ = ["KINDS", "LATER", "Finding", "shape"]

M = typing.TypeVar("M", bound=BaseModel)

KINDS: Final[dict[str, type[ModelRoute | DeploymentStrategy]]] = {
    "ModelRoute": ModelRoute,
    "DeploymentStrategy": DeploymentStrategy,
}

# Fields of later versions: calling them unknown would send people to look for a typo.
LATER: Final = frozenset(
    {
        "compare",
        "service",
        "systemFrom",
    }
)

_NOT_IN_YAML: Final = frozenset({"[key]", BACKEND, SPLIT})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at `loc`; `key` says that the key is meant and not its value."""

    loc: Loc
    message: str
    allowed: str
    warning: bool = False


def shape(values: Any, model: type[M]) -> tuple[M | None, tuple[Finding, ...]]:
    """Return the model of `values`, or None and everything that is wrong with their shape."""
    try:
        return model.model_validate(values), ()
    except ValidationError as error:
        details = error.errors(include_url=False)
    inner = {detail["loc"][:-1] for detail in details}
    # A list whose only entries are wrong is reported as too short besides; that is not news.
    told = [
        d
        for d in details
        if not (d["type"] == "too_short" and any(i[: len(d["loc"])] == d["loc"] for i in inner))
    ]
    return None, tuple(_explain(detail, model) for detail in told)


def _explain(detail: ErrorDetails, root: type[BaseModel]) -> Finding:
    loc: Loc = tuple(part for part in detail["loc"] if part not in _NOT_IN_YAML)
    message, allowed = _words(detail, loc, root)
    return Finding(loc, message, allowed)


def _words(  # noqa: C901, PLR0912 - one case per kind
    detail: ErrorDetails, loc: Loc, root: type[BaseModel]
) -> tuple[str, str]:
    context = detail.get("ctx", {})
    found = detail["input"]
    match detail["type"]:
        case "shiftplane":
            return str(context["message"]), str(context["allowed"])
        case "union_tag_not_found":
            return (
                f"must be the name of a backend or a split, found {_said(found)}",
                "v2 is allowed, or {weights: {v1: 80, v2: 20}}",
            )
        case "missing":
            return "is missing", _needed(loc)
        case "extra_forbidden":
            return _unknown(loc, _fields_at(loc[:-1], root))
        case "literal_error" if loc == ("kind",):
            return _literal(found, list(KINDS))
        case "literal_error":
            return _literal(found, re.findall(r"'([^']*)'", str(context["expected"])))
        case "too_short":
            return "is empty", "at least one entry is needed"
        case "too_long":
            return "has too many entries", f"at most {context['max_length']} are allowed"
        case "bool_type" | "bool_parsing":
            return f"must be true or false, found {_said(found)}", "true and false are allowed"
        case "string_type":
            return f"must be text, found {_said(found)}", "text is allowed; put numbers in quotes"
        case "tuple_type" | "list_type":
            return f"must be a list, found {_said(found)}", "a list is allowed, such as [a, b]"
        case "dict_type":
            return f"must be a mapping, found {_said(found)}", "a mapping of names is allowed"
        case "model_type" | "model_attributes_type":
            return f"must be a mapping, found {_said(found)}", _listed(_fields_at(loc, root))
        case _:
            return f"{_said(found)} is not allowed here", ""


def _needed(loc: Loc) -> str:
    return _NEEDED.get(str(loc[-1]), "it is needed")


_NEEDED: Final = {
    "apiVersion": "apiVersion: shiftplane.dev/v1alpha1 is needed",
    "kind": "kind: ModelRoute or kind: DeploymentStrategy is needed",
    "backends": "a list of model servers is needed",
    "stable": "the name of the backend that serves users now is needed",
    "steps": "a list of setWeight and pause steps is needed",
    "percentage": "a percentage of requests to copy is needed",
    "group": "the name of a group of proxies is needed",
    "proxies": "proxies: {group: NAME} is needed",
    "metadata": "metadata: {name: NAME} is needed",
    "attribute": "the name of an entry of spec.attributes is needed",
    "name": "a name is needed",
    "spec": "a mapping that says what is wanted is needed",
    "growthFactor": "the percentage of the first step is needed",
    "deploymentDuration": "how long the steps take together is needed, such as 20m",
    "randomizationUnit": "the attribute that names a user is needed",
    "variants": "a list such as [{backend: v2, weight: 20}] is needed",
    "backend": "the name of a backend is needed",
    "weight": "a percentage of users is needed",
    "weights": "percentages by name are needed, such as {v1: 80, v2: 20}",
    "stickiness": "stickiness: {attribute: NAME} is needed",
    "clauses": "a list such as [{attribute: tier, op: in, values: [gold]}] is needed",
    "op": "an operator is needed, such as in, startsWith or exists",
    "values": "a list of texts is needed",
    "serve": "the name of a backend is needed, or in a rule a split such as {weights: {v1: 80, v2: 20}}",
    "versions": "a mapping such as {v1: {system: TEXT}} is needed",
    "version": "the name of a version is needed",
    "system": "the text of the prompt is needed",
    "issuer": "the iss of the tokens is needed",
    "jwks": "the keys that sign tokens are needed: {url: URL}, or {inline: JSON}",
}


def _unknown(loc: Loc, fields: tuple[str, ...]) -> tuple[str, str]:
    key = str(loc[-1])
    if loc[-2:-1] == ("blueGreen",) and key in {"active", "preview"}:
        return "unknown field", "the backends are spec.stable and spec.candidate"
    if key in LATER:
        return "is not supported in this version", _listed(fields)
    near = difflib.get_close_matches(key, fields, n=1, cutoff=0.6)
    folded = {field.lower(): field for field in fields}
    guess = folded.get(key.lower().replace("_", "").replace("-", "")) or (near[0] if near else None)
    hint = f"; did you mean {guess!r}?" if guess else ""
    return f"unknown field{hint}", _listed(fields)


def _literal(found: Any, expected: list[str]) -> tuple[str, str]:
    near = difflib.get_close_matches(found, expected, n=1, cutoff=0.75) if isinstance(found, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    *others, last = expected
    allowed = f"{', '.join(others)} and {last} are allowed" if others else f"{last} is allowed"
    return f"is {_said(found)}{hint}", allowed


def _listed(fields: tuple[str, ...]) -> str:
    return f"allowed: {', '.join(fields)}" if fields else ""


def _said(value: Any) -> str:
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
    """Return the names of the fields allowed at a place of the YAML."""
    annotation: Any = root
    for part in loc:
        annotation = _inside(annotation, part)
        if annotation is None:
            return ()
    models = [a for a in _options(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
    return (
        tuple(sorted(field.alias or name for name, field in models[0].model_fields.items())) if models else ()
    )


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
    """Return what a type may be: the members of a union, without their annotations."""
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

"""Templates for the text of a message: fields, conditions and a few filters; nothing that could take long.

They run in jinja2's sandbox, and of its language only what is listed here is allowed: no loops, no calls, no
arithmetic. So how long one runs is bounded by how long it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jinja2 import TemplateError as JinjaError
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FIELDS", "Template", "TemplateError"]

FIELDS: Final[Mapping[str, str]] = {
    "route": "the route's name",
    "kind": "the kind of the event, such as rolled_back",
    "title": "the kind in words, such as rolled back",
    "message": "what happened",
    "actor": "who did it",
    "phase": "the phase after it",
    "generation": "which spec of the route",
    "revision": "which version the proxies are told",
    "weights": "percent of users by backend, such as weights.v2",
    "labels": "the route's labels, such as labels.team",
    "at": "when, such as 2026-01-31T09:30:00Z",
    "id": "the same each time this event is told",
    "url": "the page of the route, where there is one",
}
# None that could make text much longer: two of those in a row would be enough to hang.
_FILTERS: Final = ("capitalize", "default", "lower", "title", "trim", "truncate", "upper")
_MAPPINGS: Final = ("weights", "labels")
_ALLOWED: Final = (
    nodes.And,
    nodes.Compare,
    nodes.Concat,
    nodes.CondExpr,
    nodes.Const,
    nodes.Filter,
    nodes.Getattr,
    nodes.Getitem,
    nodes.If,
    nodes.Keyword,
    nodes.Name,
    nodes.Not,
    nodes.Operand,
    nodes.Or,
    nodes.Output,
    nodes.Template,
    nodes.TemplateData,
    nodes.Test,
)
_LONGEST: Final = 8_000


class TemplateError(ValueError):
    """A template that cannot be used: `line` counts from 1 within it, `allowed` says what may be written."""

    def __init__(self, message: str, *, line: int = 1, allowed: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.allowed = allowed


class Template:
    """A checked template."""

    def __init__(self, text: str) -> None:
        """Compile the text.

        Raises:
            TemplateError: It is none, or asks for more than templates may.
        """
        if len(text) > _LONGEST:
            raise TemplateError(f"has {len(text)} characters", allowed=f"at most {_LONGEST} are allowed")
        environment = ImmutableSandboxedEnvironment(autoescape=False, keep_trailing_newline=False)
        try:
            _check(environment.parse(text))
            self._template = environment.from_string(text)
        except JinjaError as error:
            line = getattr(error, "lineno", None) or 1
            raise TemplateError(
                f"line {line}: {error.args[0] if error.args else error}", line=line
            ) from error

    def fill(self, fields: Mapping[str, Any]) -> str:
        """Return the text with its fields; what an event does not have is empty.

        Raises:
            TemplateError: A filter or a comparison does not fit the value it was given.
        """
        try:
            return self._template.render(fields)[:_LONGEST].strip()
        except (JinjaError, TypeError, ValueError, AttributeError) as error:
            raise TemplateError(str(error)) from error


def _check(tree: nodes.Template) -> None:
    for node in tree.find_all(nodes.Node):
        match node:
            case nodes.Filter() if node.name not in _FILTERS:
                said, allowed = f"there is no filter {node.name!r}", f"allowed: {', '.join(_FILTERS)}"
            case nodes.Name() if node.name not in FIELDS:
                said, allowed = f"there is no field {node.name!r}", f"allowed: {', '.join(FIELDS)}"
            case nodes.Getattr() | nodes.Getitem() if not _in_mapping(node):
                said, allowed = "only weights and labels have fields", "such as weights.v2 or labels.team"
            case _ if not isinstance(node, _ALLOWED):
                said = f"{type(node).__name__} is more than a template may"
                allowed = "fields, {% if %} and filters are allowed"
            case _:
                continue
        raise TemplateError(f"line {node.lineno}: {said}", line=node.lineno, allowed=allowed)


def _in_mapping(node: nodes.Getattr | nodes.Getitem) -> bool:
    return isinstance(node.node, nodes.Name) and node.node.name in _MAPPINGS

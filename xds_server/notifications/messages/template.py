"""Templates for the text of a message: fields, conditions and a few filters.

Templates run in the sandbox of jinja2 and may use only the language elements listed here: no loops, calls or
arithmetic. The run time of a template is therefore bounded by its length.
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
    "route": "the name of the route",
    "kind": "the kind of the event, such as rolled_back",
    "title": "a short title of the event, such as rolled back",
    "message": "the description of the event",
    "actor": "the user or component that caused the event",
    "phase": "the phase of the rollout after the event",
    "generation": "the generation of the route's spec",
    "revision": "the revision of the configuration that proxies receive",
    "weights": "percent of users by backend, such as weights.v2",
    "labels": "the labels of the route, such as labels.team",
    "at": "the time of the event, such as 2026-01-31T09:30:00Z",
    "id": "the id of the event, the same for every delivery",
    "url": "the URL of the route's page, empty without publicUrl",
}
# Filters that can make text much longer are excluded: two of them in a row could exhaust CPU and memory.
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
_MAX_LENGTH: Final = 8_000


class TemplateError(ValueError):
    """A template is invalid: `line` counts from 1 within it, `allowed` lists what is allowed."""

    def __init__(self, message: str, *, line: int = 1, allowed: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.allowed = allowed


class Template:
    """A validated and compiled template."""

    def __init__(self, text: str) -> None:
        """Compile the text.

        Raises:
            TemplateError: The text is not a template, or uses elements that are not allowed.
        """
        if len(text) > _MAX_LENGTH:
            raise TemplateError(f"has {len(text)} characters", allowed=f"allowed: at most {_MAX_LENGTH}")
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
        """Return the rendered text; fields that the event does not have are empty.

        Raises:
            TemplateError: A filter or a comparison does not support the type of its value.
        """
        try:
            return self._template.render(fields)[:_MAX_LENGTH].strip()
        except (JinjaError, TypeError, ValueError, AttributeError) as error:
            raise TemplateError(str(error)) from error


def _check(tree: nodes.Template) -> None:
    for node in tree.find_all(nodes.Node):
        match node:
            case nodes.Filter() if node.name not in _FILTERS:
                message, allowed = f"unknown filter {node.name!r}", f"allowed: {', '.join(_FILTERS)}"
            case nodes.Name() if node.name not in FIELDS:
                message, allowed = f"unknown field {node.name!r}", f"allowed: {', '.join(FIELDS)}"
            case nodes.Getattr() | nodes.Getitem() if not _in_mapping(node):
                message, allowed = "only weights and labels have fields", "allowed: weights.v2 or labels.team"
            case _ if not isinstance(node, _ALLOWED):
                message = f"{type(node).__name__} is not allowed in a template"
                allowed = "allowed: fields, {% if %} and filters"
            case _:
                continue
        raise TemplateError(f"line {node.lineno}: {message}", line=node.lineno, allowed=allowed)


def _in_mapping(node: nodes.Getattr | nodes.Getitem) -> bool:
    return isinstance(node.node, nodes.Name) and node.node.name in _MAPPINGS

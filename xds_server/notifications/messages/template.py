"""Jinja templates for the text of a message: fields, conditions and a few filters.

Templates run in the sandbox of jinja2 and may use only the language elements listed here: no loops, calls or
arithmetic. The run time of a template is therefore bounded by its length.
"""

from __future__ import annotations

import re
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
# Names of symbols in Jinja's messages → what a user writes in a template.
_TOKENS: Final = {
    "end of print statement": "'}}'",
    "end of statement block": "'%}'",
    "name": "a name",
    "integer": "a number",
    "float": "a number",
    "string": "a text",
}
_TAGS: Final = {
    "Assign": "set",
    "AssignBlock": "set",
    "CallBlock": "call",
    "FilterBlock": "filter",
    "FromImport": "from",
}


class TemplateError(ValueError):
    """A template is invalid: `line` is the line of the template, from 1; `allowed` lists what is allowed."""

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
            raise TemplateError(
                f"has {len(text)} characters", allowed=f"allowed: at most {_MAX_LENGTH} characters"
            )
        environment = ImmutableSandboxedEnvironment(autoescape=False, keep_trailing_newline=False)
        try:
            _check(environment.parse(text))
            self._template = environment.from_string(text)
        except JinjaError as error:
            line = getattr(error, "lineno", None) or 1
            raise TemplateError(_plain(error, line), line=line) from error

    def fill(self, fields: Mapping[str, Any]) -> str:
        """Return the rendered text; fields that the event does not have are empty.

        Raises:
            TemplateError: A filter or a comparison does not support the type of its value.
        """
        try:
            return self._template.render(fields)[:_MAX_LENGTH].strip()
        except (JinjaError, TypeError, ValueError, AttributeError) as error:
            raise TemplateError(f"the template cannot be used for this event: {error}") from error


def _check(tree: nodes.Template) -> None:
    for node in tree.find_all(nodes.Node):
        match node:
            case nodes.Filter() if node.name not in _FILTERS:
                message, allowed = f"unknown filter {node.name!r}", f"allowed: {', '.join(_FILTERS)}"
            case nodes.Name() if node.name not in FIELDS:
                message, allowed = f"unknown field {node.name!r}", f"allowed: {', '.join(FIELDS)}"
            case nodes.Getattr() | nodes.Getitem() if not _in_mapping(node):
                message = "only weights and labels have fields"
                allowed = "allowed: a field of weights or labels, such as weights.v2 or labels.team"
            case _ if not isinstance(node, _ALLOWED):
                message = f"{_element(node)} is not allowed"
                allowed = "allowed: fields, comparisons, {% if %} and filters"
            case _:
                continue
        raise TemplateError(
            f"line {node.lineno} of the template: {message}", line=node.lineno, allowed=allowed
        )


def _plain(error: JinjaError, line: int) -> str:
    """Return an error of Jinja without Jinja's names of tokens."""
    text = str(error.args[0] if error.args else error).rstrip(".")
    if (unknown := re.fullmatch(r"No (test|filter) named '(.*)'", text)) is not None:
        return f"line {line} of the template: unknown {unknown[1]} {unknown[2]!r}"
    if "tag" not in text:
        for name, symbol in _TOKENS.items():
            text = text.replace(f"'{name}'", symbol)
    text = re.sub(r"(?i:unexpected end of template)", "unexpected end of the template", text)
    text = re.sub(
        r"\. Jinja was looking for the following tags: (.*)\. The innermost block .* closed is (.*)",
        r", expected \1 to continue or close \2",
        text,
    )
    text = re.sub(r" at (\d+)$", lambda at: f" at character {int(at[1]) + 1} of the template", text)
    text = text.replace("expected token ", "expected ").replace("Encountered unknown tag", "unknown tag")
    return f"syntax error in line {line} of the template: {text[0].lower()}{text[1:]}"


def _element(node: nodes.Node) -> str:
    """Return how an element of Jinja looks in a template."""
    match node:
        case nodes.Call():
            return "a call with ( )"
        case nodes.BinExpr() | nodes.UnaryExpr() if node.operator:
            return f"the operator {node.operator}"
        case nodes.Stmt():
            name = _TAGS.get(type(node).__name__, type(node).__name__.lower())
            return f"{{% {name} %}}"
        case _:
            return f"the Jinja element {type(node).__name__}"


def _in_mapping(node: nodes.Getattr | nodes.Getitem) -> bool:
    return isinstance(node.node, nodes.Name) and node.node.name in _MAPPINGS

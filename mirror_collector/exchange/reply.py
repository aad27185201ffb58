"""The parsed answer of a model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["Reply", "ReplyKind", "ToolCall", "replace_surrogates"]


class ReplyKind(Enum):
    """Kind of response body."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSE = "response"
    """An answer of the responses endpoint."""

    ERROR = "error"
    """An error object only."""

    EMPTY = "empty"
    OPAQUE = "opaque"
    """A body that is not a known answer format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call of the model; `arguments` is the JSON text as the model wrote it."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, assembled from a plain body or from the events of a stream."""

    kind: ReplyKind
    streamed: bool = False
    text: str = ""
    """Content of the answer; the contents of several choices are joined by a form feed."""

    reasoning: str = ""
    """Reasoning content; it uses tokens but is not part of the answer."""

    refused: bool = False
    """Whether the answer contains an explicit refusal field."""

    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    content_chunks: int | None = None
    """For a stream: tokens with log probabilities, else events that carried content. None if not streamed."""

    mean_logprob: float | None = None
    """Mean log probability of the tokens, if the request asked for log probabilities."""

    error: bool = False
    """Whether the body reports an error, either alone or within a stream."""

    whole: bool = True
    """Whether the answer is complete: it has a finish reason, ``[DONE]`` or a closed JSON object."""

    @property
    def is_answer(self) -> bool:
        """Whether the body contains an answer of a model."""
        return self.kind in _ANSWER_KINDS

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads; fields with default values are omitted."""
        value: dict[str, Any] = {"kind": self.kind.value}
        for name, default in _DEFAULTS.items():
            field = getattr(self, name)
            if field != default:
                value[name] = field
        if self.tool_calls:
            value["tool_calls"] = [[call.name, call.arguments] for call in self.tool_calls]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Reply:
        """Return the reply that `to_json` wrote."""
        calls = tuple(ToolCall(name=name, arguments=text) for name, text in value.get("tool_calls", ()))
        fields = {name: value[name] for name in _DEFAULTS if name in value}
        return cls(kind=ReplyKind(value["kind"]), tool_calls=calls, **fields)


_ANSWER_KINDS = frozenset({ReplyKind.CHAT, ReplyKind.COMPLETION, ReplyKind.RESPONSE})
_DEFAULTS: dict[str, Any] = {
    "streamed": False,
    "text": "",
    "reasoning": "",
    "refused": False,
    "finish_reason": None,
    "prompt_tokens": None,
    "completion_tokens": None,
    "content_chunks": None,
    "mean_logprob": None,
    "error": False,
    "whole": True,
}


def replace_surrogates(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates, which JSON can contain but UTF-8 cannot."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

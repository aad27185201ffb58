"""One answer of a model, put together again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["Reply", "ReplyKind", "ToolCall", "clean"]


class ReplyKind(Enum):
    """What sort of body it is."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSE = "response"
    """Of the responses endpoint."""

    ERROR = "error"
    """An error object and nothing else."""

    EMPTY = "empty"
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call the model asks for; the arguments are JSON text as the model wrote it."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, put together again."""

    kind: ReplyKind
    streamed: bool = False
    text: str = ""
    """What the model said; several choices are joined by a form feed."""

    reasoning: str = ""
    """What it thought aloud; costs tokens and is no part of the answer."""

    refused: bool = False
    """Whether it said in a field of its own that it will not."""

    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    content_chunks: int | None = None
    """Of a stream: tokens by log probabilities, else events that carried content. None for a plain answer."""

    mean_logprob: float | None = None
    """Of the tokens, where the request asked for log probabilities."""

    error: bool = False
    """Whether an error was reported, be it alone or in the middle of a stream."""

    whole: bool = True
    """Whether the answer came to its own end (a finish reason, ``[DONE]``, a closed JSON object)."""

    @property
    def spoken(self) -> bool:
        """Whether it is an answer of a model at all."""
        return self.kind in _SPOKEN

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads; what is as usual is left out."""
        found: dict[str, Any] = {"kind": self.kind.value}
        for name, usual in _USUAL.items():
            value = getattr(self, name)
            if value != usual:
                found[name] = value
        if self.tool_calls:
            found["tool_calls"] = [[call.name, call.arguments] for call in self.tool_calls]
        return found

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Reply:
        """The answer `to_json` wrote."""
        calls = tuple(ToolCall(name=name, arguments=text) for name, text in value.get("tool_calls", ()))
        plain = {name: value[name] for name in _USUAL if name in value}
        return cls(kind=ReplyKind(value["kind"]), tool_calls=calls, **plain)


_SPOKEN = frozenset({ReplyKind.CHAT, ReplyKind.COMPLETION, ReplyKind.RESPONSE})
_USUAL: dict[str, Any] = {
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


def clean(text: str) -> str:
    """Join surrogate pairs and replace halves: JSON can carry them, no file and no socket takes them."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

"""The parsed answer of a model."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mirror_collector.exchange.unread import UnreadReason

__all__ = ["Reply", "ReplyKind", "ToolCall", "replace_surrogates"]


class ReplyKind(Enum):
    """Kind of response body."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSE = "response"
    """An answer of the responses endpoint."""

    MESSAGE = "message"
    """An answer of the Messages API."""

    EMBEDDINGS = "embeddings"
    RANKING = "ranking"
    """Documents ordered by relevance."""

    SCORES = "scores"
    """Scores of pairs of texts, in the order of the request."""

    TRANSCRIPT = "transcript"
    DOCUMENT = "document"
    """JSON that is compared field by field: moderations and lists of models."""

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
    unread: UnreadReason | None = None
    """Why the body could not be read, or not completely; None if it was read. The other fields of an unread
    reply hold the part that was read."""

    streamed: bool = False
    text: str = ""
    """Content of the answer; the contents of several choices are joined by a form feed."""

    reasoning: str = ""
    """Reasoning content; it uses tokens but is not part of the answer."""

    refused: bool = False
    """Whether the answer contains an explicit refusal field."""

    tool_calls: tuple[ToolCall, ...] = ()
    vectors: tuple[bytes, ...] = ()
    """Embeddings by input, each as little-endian 32-bit floats."""

    scores: tuple[tuple[int, float], ...] = ()
    """Index in the request and score of each result, in the order of the answer."""

    document: str = ""
    """JSON text of a document, without fields that differ in every answer."""

    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    content_chunks: int | None = None
    """For a stream of text: tokens with log probabilities, else events that carried content. Events without
    text, such as the role, pings and audio, do not count. None if not a stream of text."""

    mean_logprob: float | None = None
    """Mean log probability of the tokens, if the request asked for log probabilities."""

    error: bool = False
    """Whether the body reports an error, either alone or within a stream."""

    whole: bool = True
    """Whether the answer is complete: a closed JSON object, or a stream with the end mark of its API."""

    @property
    def is_answer(self) -> bool:
        """Whether the body contains an answer of a model, which can be stored in its assembled form."""
        return self.kind in _ANSWER_KINDS

    @property
    def is_generated(self) -> bool:
        """Whether the answer is text that a language model generated, so that it can refuse or be cut off."""
        return self.kind in _GENERATED_KINDS

    @property
    def is_broken(self) -> bool:
        """Whether the answer reports an error, or is a stream that was read and has no end mark."""
        return self.error or (self.streamed and not self.whole and self.unread is None)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads; fields with default values are omitted."""
        value: dict[str, Any] = {"kind": self.kind.value}
        for name, default in _DEFAULTS.items():
            field = getattr(self, name)
            if field != default:
                value[name] = field
        if self.unread is not None:
            value["unread"] = self.unread.value
        if self.tool_calls:
            value["tool_calls"] = [[call.name, call.arguments] for call in self.tool_calls]
        if self.vectors:
            value["vectors"] = [b64encode(vector).decode() for vector in self.vectors]
        if self.scores:
            value["scores"] = [[index, score] for index, score in self.scores]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Reply:
        """Return the reply that `to_json` wrote."""
        unread = value.get("unread")
        fields = {name: value[name] for name in _DEFAULTS if name in value}
        return cls(
            kind=ReplyKind(value["kind"]),
            unread=None if unread is None else UnreadReason(unread),
            tool_calls=tuple(
                ToolCall(name=name, arguments=text) for name, text in value.get("tool_calls", ())
            ),
            vectors=tuple(b64decode(vector) for vector in value.get("vectors", ())),
            scores=tuple((index, score) for index, score in value.get("scores", ())),
            **fields,
        )


_GENERATED_KINDS = frozenset({ReplyKind.CHAT, ReplyKind.COMPLETION, ReplyKind.RESPONSE, ReplyKind.MESSAGE})
_ANSWER_KINDS = _GENERATED_KINDS | {
    ReplyKind.EMBEDDINGS,
    ReplyKind.RANKING,
    ReplyKind.SCORES,
    ReplyKind.TRANSCRIPT,
}
_DEFAULTS: dict[str, Any] = {
    "streamed": False,
    "text": "",
    "reasoning": "",
    "refused": False,
    "document": "",
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

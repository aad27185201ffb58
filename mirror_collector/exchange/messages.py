"""Builder of a `Reply` from an answer of the Messages API, plain or streamed.

A content block is text, thinking or a tool call. Blocks of text are pieces of one text that citations split.
Blocks of other types, such as results of tools that the server runs, are no text of the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from mirror_collector.exchange.completions import MAX_CALLS, MAX_PARTS, ToolCallBuilder
from mirror_collector.exchange.reply import Reply, ReplyKind, ToolCall, replace_surrogates
from mirror_collector.exchange.usage import Usage

__all__ = ["MESSAGE_EVENTS", "MessageBuilder"]

MESSAGE_EVENTS: Final = frozenset(
    {
        *("message_start", "message_delta", "message_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    }
)
"""Types of the events of a stream, except ``ping`` and ``error``."""

_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Finish reasons of chat completions by stop reason; other stop reasons keep their name."""


@dataclass(slots=True)
class _Call:
    pieces: ToolCallBuilder = field(default_factory=ToolCallBuilder)
    given: Any = None
    """The input that came with the start of the block; pieces of JSON, if any, replace it."""

    def build(self) -> ToolCall:
        if not self.pieces.arguments:
            self.pieces.arguments.append(_json_text(self.given))
        return self.pieces.build()


@dataclass(slots=True)
class MessageBuilder:
    """The pieces of a message."""

    texts: dict[int, list[str]] = field(default_factory=dict)
    calls: dict[int, _Call] = field(default_factory=dict)
    reasoning: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    stop_reason: str | None = None
    chunks: int = 0
    """Number of events that carried content."""

    stopped: bool = False
    """Whether the message ended as its API requires."""

    seen: bool = False
    """Whether a message or an event was added."""

    def add_message(self, value: dict[str, Any]) -> None:
        """Add a complete message object."""
        self.seen = True
        blocks = value.get("content")
        for index, block in enumerate(blocks[:MAX_PARTS] if isinstance(blocks, list) else ()):
            self._add_block(index, block)
        self._add_stop(value)
        self.usage.add(value.get("usage"))
        self.stopped = self.stop_reason is not None

    def add_event(self, kind: str, value: dict[str, Any]) -> None:
        """Add one event of a stream; `kind` is one of `MESSAGE_EVENTS`."""
        self.seen = True
        match kind, value:
            case "message_start", {"message": {**message}}:
                self.usage.add(message.get("usage"))
            case "content_block_start", {"index": int() as index, "content_block": block}:
                self._add_block(index, block)
            case "content_block_delta", {"index": int() as index, "delta": delta}:
                self._add_delta(index, delta)
            case "message_delta", _:
                self._add_stop(value.get("delta"))
                self.usage.add(value.get("usage"))
            case "message_stop", _:
                self.stopped = True
            case _:
                pass

    def _add_block(self, index: int, block: Any) -> None:
        match block:
            case {"type": "text", "text": str() as text}:
                self._add_text(index, text)
            case {"type": "thinking", "thinking": str() as text}:
                self.reasoning.append(text)
            case {"type": "tool_use", "name": str() as name} if index >= 0 and len(self.calls) < MAX_CALLS:
                self.calls[index] = _Call(given=block.get("input"))
                self.calls[index].pieces.name.append(name)
            case _:
                pass

    def _add_delta(self, index: int, delta: Any) -> None:
        match delta:
            case {"type": "text_delta", "text": str() as text} if text:
                self._add_text(index, text)
            case {"type": "thinking_delta", "thinking": str() as text} if text:
                self.reasoning.append(text)
            case {"type": "input_json_delta", "partial_json": str() as text} if text and index in self.calls:
                self.calls[index].pieces.arguments.append(text)
            case _:
                return  # A signature, a citation or an empty text: no content.
        self.chunks += 1

    def _add_text(self, index: int, text: str) -> None:
        if index >= 0 and (index in self.texts or len(self.texts) < MAX_PARTS):
            self.texts.setdefault(index, []).append(text)

    def _add_stop(self, value: Any) -> None:
        match value:
            case {"stop_reason": str() as reason}:
                self.stop_reason = reason[:64]
            case _:
                pass

    def build(self, *, streamed: bool, error: bool = False) -> Reply:
        """Return the reply."""
        reason = self.stop_reason
        text = replace_surrogates("".join("".join(self.texts[index]) for index in sorted(self.texts)))
        return Reply(
            kind=ReplyKind.MESSAGE,
            streamed=streamed,
            text=text,
            reasoning=replace_surrogates("".join(self.reasoning)),
            refused=reason == "refusal",
            tool_calls=tuple(self.calls[index].build() for index in sorted(self.calls)),
            finish_reason=None if reason is None else replace_surrogates(_FINISH_REASONS.get(reason, reason)),
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            # Only deltas are counted, so the number is unknown if the text arrived without deltas.
            content_chunks=self.chunks if streamed and (self.chunks or not text) else None,
            error=error,
            whole=self.stopped,
        )


def _json_text(value: Any) -> str:
    try:
        return json.dumps({} if value is None else value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""

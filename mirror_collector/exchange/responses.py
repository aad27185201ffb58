"""Answers of the responses endpoint on their way to a `Reply`, plain or event by event.

An output item is a message, a function call or a reasoning; several messages are joined like choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from mirror_collector.exchange.completions import MAX_CALLS, Call, tokens
from mirror_collector.exchange.reply import Reply, ReplyKind, clean

__all__ = ["Responses"]

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_FINISH: Final = {"completed": "stop", "incomplete": "length", "failed": "error"}


@dataclass(slots=True)
class Responses:
    """Everything said so far."""

    texts: dict[int, list[str]] = field(default_factory=dict)
    calls: dict[int, Call] = field(default_factory=dict)
    thoughts: list[str] = field(default_factory=list)
    finish: str | None = None
    refused: bool = False
    error: bool = False
    chunks: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seen: bool = False

    def whole_response(self, value: dict[str, Any]) -> None:
        """Take in a response object."""
        self.seen = True
        for index, item in enumerate(_items(value.get("output"))):
            self._item(index, item)
        self._end(value)

    def event(self, kind: str, value: dict[str, Any]) -> None:
        """Take in one event of a stream."""
        self.seen = True
        index = value.get("output_index", 0)
        if not isinstance(index, int) or not 0 <= index < MAX_CALLS:
            return
        delta = value.get("delta")
        if isinstance(delta, str):
            self.chunks += 1
            self._delta(kind, index, delta)
        elif kind == "response.output_item.added" and isinstance(item := value.get("item"), dict):
            if item.get("type") == "function_call":
                _say(self.calls.setdefault(index, Call()).name, item.get("name"))
        elif kind in _ENDS and isinstance(response := value.get("response"), dict):
            self._end(response)
        elif kind == "error":
            self.error = True

    def _delta(self, kind: str, index: int, delta: str) -> None:
        if kind == "response.output_text.delta":
            self.texts.setdefault(index, []).append(delta)
        elif kind == "response.refusal.delta":
            self.refused = True
            self.texts.setdefault(index, []).append(delta)
        elif kind == "response.function_call_arguments.delta":
            self.calls.setdefault(index, Call()).arguments.append(delta)
        elif kind.startswith("response.reasoning"):
            self.thoughts.append(delta)

    def _item(self, index: int, item: dict[str, Any]) -> None:
        match item:
            case {"type": "message", "content": [*parts]}:
                pieces = self.texts.setdefault(index, [])
                for part in _items(parts):
                    _say(pieces, part.get("text"))
                    if isinstance(part.get("refusal"), str):
                        self.refused = True
                        _say(pieces, part["refusal"])
            case {"type": "function_call"}:
                call = self.calls.setdefault(index, Call())
                _say(call.name, item.get("name"))
                _say(call.arguments, item.get("arguments"))
            case {"type": "reasoning"}:
                for part in (*_items(item.get("content")), *_items(item.get("summary"))):
                    _say(self.thoughts, part.get("text"))
            case _:
                pass

    def _end(self, response: dict[str, Any]) -> None:
        status = response.get("status")
        self.finish = _FINISH.get(status) if isinstance(status, str) else None
        if status == "completed" and self.calls:
            self.finish = "tool_calls"
        self.error = self.error or status == "failed" or bool(response.get("error"))
        usage = response.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = tokens(usage.get("input_tokens"), self.prompt_tokens)
            self.completion_tokens = tokens(usage.get("output_tokens"), self.completion_tokens)

    def reply(self, *, streamed: bool) -> Reply:
        """Close the account."""
        return Reply(
            kind=ReplyKind.RESPONSE,
            streamed=streamed,
            text=clean("\f".join("".join(self.texts[index]) for index in sorted(self.texts))),
            reasoning=clean("".join(self.thoughts)),
            refused=self.refused,
            tool_calls=tuple(self.calls[index].whole() for index in sorted(self.calls)),
            finish_reason=self.finish,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            content_chunks=self.chunks if streamed else None,
            error=self.error,
            whole=self.finish is not None,
        )


def _items(value: Any) -> list[dict[str, Any]]:
    return [one for one in value[:MAX_CALLS] if isinstance(one, dict)] if isinstance(value, list) else []


def _say(pieces: list[str], value: Any) -> None:
    if isinstance(value, str):
        pieces.append(value)

"""Builder of a `Reply` from an answer of the responses endpoint, plain or streamed.

An output item is a message, a function call or reasoning. The texts of several messages are joined by a form
feed, like those of several choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from mirror_collector.exchange.completions import MAX_CALLS, ToolCallBuilder
from mirror_collector.exchange.reply import Reply, ReplyKind, replace_surrogates
from mirror_collector.exchange.usage import Usage

__all__ = ["ResponseBuilder"]

_END_EVENTS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_FINISH_REASONS: Final = {"completed": "stop", "incomplete": "length", "failed": "error"}
_CALL_ITEMS: Final = frozenset({"function_call", "custom_tool_call"})


@dataclass(slots=True)
class ResponseBuilder:
    """The pieces of a response."""

    texts: dict[int, list[str]] = field(default_factory=dict)
    calls: dict[int, ToolCallBuilder] = field(default_factory=dict)
    reasoning: list[str] = field(default_factory=list)
    finish: str | None = None
    refused: bool = False
    error: bool = False
    chunks: int = 0
    """Number of events that carried content."""

    usage: Usage = field(default_factory=Usage)
    seen: bool = False
    """Whether a response object or an event was added."""

    def add_response(self, value: dict[str, Any]) -> None:
        """Add a complete response object."""
        self.seen = True
        self._add_output(value)
        self._add_end(value)

    def _add_output(self, value: dict[str, Any]) -> None:
        for index, item in enumerate(_objects(value.get("output"))):
            self._add_item(index, item)

    def add_event(self, kind: str, value: dict[str, Any]) -> None:
        """Add one event of a stream."""
        self.seen = True
        index = value.get("output_index", 0)
        if not isinstance(index, int) or not 0 <= index < MAX_CALLS:
            return
        delta = value.get("delta")
        if isinstance(delta, str):
            self.chunks += bool(delta) and self._add_delta(kind, index, delta)
        elif kind == "response.output_item.added" and isinstance(item := value.get("item"), dict):
            if item.get("type") in _CALL_ITEMS:
                _append(self._call(index, item).name, item.get("name"))
        elif kind in _END_EVENTS:
            response = value.get("response")
            response = response if isinstance(response, dict) else {}
            if not (self.texts or self.calls or self.reasoning):
                # Some servers send no deltas, and the answer only with the last event.
                self._add_output(response)
            self._add_end({"status": kind.removeprefix("response."), **response})

    def _add_delta(self, kind: str, index: int, delta: str) -> bool:
        """Add a piece of text; return False for a piece of anything else, such as audio."""
        if kind == "response.output_text.delta":
            self.texts.setdefault(index, []).append(delta)
        elif kind == "response.refusal.delta":
            self.refused = True
            self.texts.setdefault(index, []).append(delta)
        elif kind == "response.function_call_arguments.delta":
            self.calls.setdefault(index, ToolCallBuilder()).arguments.append(delta)
        elif kind == "response.custom_tool_call_input.delta":
            self.calls.setdefault(index, ToolCallBuilder(custom=True)).arguments.append(delta)
        elif kind.startswith("response.reasoning"):
            self.reasoning.append(delta)
        else:
            return False
        return True

    def _call(self, index: int, item: dict[str, Any]) -> ToolCallBuilder:
        return self.calls.setdefault(index, ToolCallBuilder(custom=item["type"] == "custom_tool_call"))

    def _add_item(self, index: int, item: dict[str, Any]) -> None:
        match item:
            case {"type": "message", "content": [*parts]}:
                pieces = self.texts.setdefault(index, [])
                for part in _objects(parts):
                    _append(pieces, part.get("text"))
                    if isinstance(part.get("refusal"), str):
                        self.refused = True
                        _append(pieces, part["refusal"])
            case {"type": "function_call" | "custom_tool_call"}:
                call = self._call(index, item)
                _append(call.name, item.get("name"))
                _append(call.arguments, item.get("input" if call.custom else "arguments"))
            case {"type": "reasoning"}:
                for part in (*_objects(item.get("content")), *_objects(item.get("summary"))):
                    _append(self.reasoning, part.get("text"))
            case _:
                pass

    def _add_end(self, response: dict[str, Any]) -> None:
        status = response.get("status")
        self.finish = _FINISH_REASONS.get(status) if isinstance(status, str) else None
        if status == "incomplete" and response.get("incomplete_details") == {"reason": "content_filter"}:
            self.finish = "content_filter"
        if status == "completed" and self.calls:
            self.finish = "tool_calls"
        self.error = self.error or status == "failed" or bool(response.get("error"))
        self.usage.add(response.get("usage"))

    def build(self, *, streamed: bool, error: bool = False) -> Reply:
        """Return the reply."""
        text = replace_surrogates("\f".join("".join(self.texts[index]) for index in sorted(self.texts)))
        return Reply(
            kind=ReplyKind.RESPONSE,
            streamed=streamed,
            text=text,
            reasoning=replace_surrogates("".join(self.reasoning)),
            refused=self.refused,
            tool_calls=tuple(self.calls[index].build() for index in sorted(self.calls)),
            finish_reason=self.finish,
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            # Only deltas are counted, so the number is unknown if the text arrived without deltas.
            content_chunks=self.chunks if streamed and (self.chunks or not text) else None,
            error=error or self.error,
            whole=self.finish is not None,
        )


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value[:MAX_CALLS] if isinstance(item, dict)] if isinstance(value, list) else []


def _append(pieces: list[str], value: Any) -> None:
    if isinstance(value, str):
        pieces.append(value)

"""Builder of a `Reply` from a chat or text completion, plain or streamed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from mirror_collector.exchange.reply import Reply, ReplyKind, ToolCall, replace_surrogates
from mirror_collector.exchange.usage import Usage

__all__ = ["MAX_CALLS", "MAX_CHOICES", "MAX_PARTS", "CompletionBuilder", "ToolCallBuilder"]

MAX_CHOICES: Final = 16
MAX_CALLS: Final = 64
MAX_PARTS: Final = 256
_REASONING_FIELDS: Final = ("reasoning", "reasoning_content")
_ERROR_REASONS: Final = frozenset({"error", "abort"})
"""Finish reasons by which a server reports that it gave up on the answer."""


@dataclass(slots=True)
class ToolCallBuilder:
    """The pieces of a tool call."""

    name: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    custom: bool = False
    """Whether the arguments are free text, which becomes the JSON object ``{"input": text}``."""

    def build(self) -> ToolCall:
        """Return the tool call."""
        arguments = replace_surrogates("".join(self.arguments))
        if self.custom:
            arguments = orjson.dumps({"input": arguments}).decode()
        return ToolCall(name=replace_surrogates("".join(self.name)), arguments=arguments)


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list)
    calls: dict[int, ToolCallBuilder] = field(default_factory=dict)
    finish: str | None = None


@dataclass(slots=True)
class CompletionBuilder:
    """The pieces of a completion."""

    choices: dict[int, _Choice] = field(default_factory=dict)
    reasoning: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    chunks: int = 0
    """Number of events that carried content."""

    size: int = 0
    """Number of characters of content, including reasoning."""

    refused: bool = False
    error: bool = False
    """Whether a choice ended with an error."""

    seen: bool = False
    """Whether any event or choice was added."""

    chat: bool | None = None
    """Whether the choices have the format of chat; None if none of them has content."""

    logprobs: int = 0
    """Number of tokens with a log probability."""

    logprob_sum: float = 0.0

    def add_event(self, choices: list[Any], usage: Any) -> None:
        """Add one event of a stream."""
        self.seen = True
        if usage is None and len(choices) == 1 and self._add_text_delta(choices[0]):
            return
        size_before = self.size
        for choice in choices:
            self.add_choice(choice, key="delta")
        if usage is not None:
            self.add_usage(usage)
        self.chunks += self.size > size_before

    def _add_text_delta(self, value: Any) -> bool:
        """Add an event of the most common kind, text of the first choice only; return False for any other."""
        if type(value) is not dict or value.get("index") != 0:
            return False
        delta = value.get("delta")
        if type(delta) is not dict or len(delta) != 1 or type(text := delta.get("content")) is not str:
            return False
        if value.get("finish_reason") is not None or value.get("logprobs") is not None or value.get("error"):
            return False
        choice = self.choices.get(0)
        if choice is None:
            choice = self.choices[0] = _Choice()
        self.chat = True
        choice.text.append(text)
        self.size += len(text)
        self.chunks += bool(text)
        return True

    def add_choice(self, value: Any, *, key: str) -> None:
        """Add one element of ``choices``; `key` is the name of its content: ``message`` or ``delta``."""
        self.seen = True
        if not isinstance(value, dict):
            return
        index = value.get("index", 0)
        if not isinstance(index, int) or not 0 <= index < MAX_CHOICES:
            return
        choice = self.choices.get(index)
        if choice is None:
            choice = self.choices[index] = _Choice()
        finish = value.get("finish_reason")
        if isinstance(finish, str):
            choice.finish = replace_surrogates(finish[:64])
            self.error = self.error or finish in _ERROR_REASONS
        self.error = self.error or bool(value.get("error"))
        if value.get("logprobs") is not None:
            self._add_logprobs(value["logprobs"])
        content = value.get(key)
        if isinstance(content, dict):
            self.chat = True
            self._add_content(choice, content)
        elif "text" in value:
            self.chat = self.chat or False
            self._append(choice.text, value["text"])

    def _add_content(self, choice: _Choice, content: dict[str, Any]) -> None:
        self._add_parts(choice, content.get("content"))
        if isinstance(audio := content.get("audio"), dict):
            self._append(choice.text, audio.get("transcript"))
        if isinstance(refusal := content.get("refusal"), str) and refusal:
            self.refused = True
            self._append(choice.text, refusal)
        for name in _REASONING_FIELDS:
            if name in content:
                self._append(self.reasoning, content[name])
        calls = content.get("tool_calls")
        if isinstance(calls, list):
            for position, call in enumerate(calls[:MAX_CALLS]):
                self._add_call(choice, position, call)
        if isinstance(call := content.get("function_call"), dict):
            self._add_call(choice, 0, {"function": call})

    def _add_parts(self, choice: _Choice, content: Any) -> None:
        """Add content: a text, or a list of parts, which some servers send for reasoning models."""
        if not isinstance(content, list):
            self._append(choice.text, content)
            return
        for part in content[:MAX_PARTS]:
            match part:
                case {"type": "text", "text": text}:
                    self._append(choice.text, text)
                case {"type": "thinking", "thinking": [*pieces]}:
                    for piece in pieces[:MAX_PARTS]:
                        self._append(self.reasoning, piece.get("text") if isinstance(piece, dict) else None)
                case {"type": "thinking", "thinking": text}:
                    self._append(self.reasoning, text)
                case _:
                    pass

    def _add_call(self, choice: _Choice, position: int, value: Any) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("function"), dict):
            return
        index = value.get("index", position)
        if not isinstance(index, int) or not 0 <= index < MAX_CALLS:
            return
        call = choice.calls.setdefault(index, ToolCallBuilder())
        self._append(call.name, value["function"].get("name"))
        self._append(call.arguments, value["function"].get("arguments"))

    def _append(self, pieces: list[str], value: Any) -> None:
        if isinstance(value, str):
            pieces.append(value)
            self.size += len(value)

    def _add_logprobs(self, value: Any) -> None:
        """Add log probabilities: a list of objects in chat, a list of numbers in text completions."""
        if not isinstance(value, dict):
            return
        items = value.get("content") or value.get("token_logprobs")
        for item in items if isinstance(items, list) else ():
            number = item.get("logprob") if isinstance(item, dict) else item
            if isinstance(number, int | float) and math.isfinite(number):
                self.logprobs += 1
                self.logprob_sum += max(-1e4, number)

    def add_usage(self, value: Any) -> None:
        """Set the token counts; of several usage reports, the newest count of each field is kept."""
        self.usage.add(value)

    def build(self, *, streamed: bool, whole: bool, error: bool = False, chat: bool = False) -> Reply:
        """Return the reply; `chat` decides its kind if no choice has content."""
        choices = [self.choices[index] for index in sorted(self.choices)]
        calls = [choice.calls[index] for choice in choices for index in sorted(choice.calls)]
        return Reply(
            kind=ReplyKind.CHAT if (chat if self.chat is None else self.chat) else ReplyKind.COMPLETION,
            streamed=streamed,
            text=replace_surrogates("\f".join("".join(choice.text) for choice in choices)),
            reasoning=replace_surrogates("".join(self.reasoning)),
            refused=self.refused,
            tool_calls=tuple(call.build() for call in calls),
            finish_reason=next((choice.finish for choice in choices if choice.finish is not None), None),
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            content_chunks=(self.logprobs or self.chunks) if streamed else None,
            mean_logprob=self.logprob_sum / self.logprobs if self.logprobs else None,
            error=error or self.error,
            whole=whole,
        )

"""Pieces of a chat or text completion on their way to a `Reply`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from mirror_collector.exchange.reply import Reply, ReplyKind, ToolCall, clean

__all__ = ["MAX_CALLS", "MAX_CHOICES", "Assembly", "Call", "tokens"]

MAX_CHOICES: Final = 16
MAX_CALLS: Final = 64
_MAX_TOKENS: Final = 1_000_000_000
_THOUGHTS: Final = ("reasoning", "reasoning_content")


@dataclass(slots=True)
class Call:
    """A tool call in pieces."""

    name: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def whole(self) -> ToolCall:
        """Put it together."""
        return ToolCall(name=clean("".join(self.name)), arguments=clean("".join(self.arguments)))


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list)
    calls: dict[int, Call] = field(default_factory=dict)
    finish: str | None = None


@dataclass(slots=True)
class Assembly:
    """Everything said so far."""

    choices: dict[int, _Choice] = field(default_factory=dict)
    thoughts: list[str] = field(default_factory=list)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    chunks: int = 0
    size: int = 0
    """Characters of content so far, reasoning included."""

    refused: bool = False
    seen: bool = False
    chat: bool = False
    logprobs: int = 0
    logprob_sum: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether every choice named its finish reason."""
        return bool(self.choices) and all(choice.finish is not None for choice in self.choices.values())

    def event(self, choices: list[Any], usage: Any) -> None:
        """Add one event of a stream."""
        if usage is None and len(choices) == 1 and self._word(choices[0]):
            return
        said = self.size
        for choice in choices:
            self.choice(choice, key="delta")
        if usage is not None:
            self.usage(usage)
        self.chunks += self.size > said

    def _word(self, value: Any) -> bool:
        """Add the usual event, a piece of the first choice's text alone; return whether it was one."""
        if type(value) is not dict or value.get("index") != 0:
            return False
        delta = value.get("delta")
        if type(delta) is not dict or len(delta) != 1 or type(text := delta.get("content")) is not str:
            return False
        if value.get("finish_reason") is not None or value.get("logprobs") is not None:
            return False
        choice = self.choices.get(0)
        if choice is None:
            choice = self.choices[0] = _Choice()
        self.seen = self.chat = True
        choice.text.append(text)
        self.size += len(text)
        self.chunks += bool(text)
        return True

    def choice(self, value: Any, *, key: str) -> None:
        """Add one element of ``choices``; `key` names its content: ``message`` or ``delta``."""
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
            choice.finish = clean(finish[:64])
        if value.get("logprobs") is not None:
            self._probable(value["logprobs"])
        content = value.get(key)
        if isinstance(content, dict):
            self.chat = True
            self._content(choice, content)
        else:
            self._say(choice.text, value.get("text"))

    def _content(self, choice: _Choice, content: dict[str, Any]) -> None:
        self._say(choice.text, content.get("content"))
        if isinstance(refusal := content.get("refusal"), str) and refusal:
            self.refused = True
            self._say(choice.text, refusal)
        for thought in _THOUGHTS:
            if thought in content:
                self._say(self.thoughts, content[thought])
        calls = content.get("tool_calls")
        if isinstance(calls, list):
            for position, call in enumerate(calls[:MAX_CALLS]):
                self._call(choice, position, call)

    def _call(self, choice: _Choice, position: int, value: Any) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("function"), dict):
            return
        index = value.get("index", position)
        if not isinstance(index, int) or not 0 <= index < MAX_CALLS:
            return
        call = choice.calls.setdefault(index, Call())
        self._say(call.name, value["function"].get("name"))
        self._say(call.arguments, value["function"].get("arguments"))

    def _say(self, pieces: list[str], value: Any) -> None:
        if isinstance(value, str):
            pieces.append(value)
            self.size += len(value)

    def _probable(self, value: Any) -> None:
        """Count tokens by their log probabilities: objects in chat, a list of numbers in text completions."""
        if not isinstance(value, dict):
            return
        listed = value.get("content") or value.get("token_logprobs")
        for one in listed if isinstance(listed, list) else ():
            number = one.get("logprob") if isinstance(one, dict) else one
            if isinstance(number, int | float) and math.isfinite(number):
                self.logprobs += 1
                self.logprob_sum += max(-1e4, number)

    def usage(self, value: Any) -> None:
        """Take over token counts; the last report of a stream wins."""
        if isinstance(value, dict):
            self.prompt_tokens = tokens(value.get("prompt_tokens"), self.prompt_tokens)
            self.completion_tokens = tokens(value.get("completion_tokens"), self.completion_tokens)

    def reply(self, *, streamed: bool, whole: bool, error: bool = False) -> Reply:
        """Close the account."""
        choices = [self.choices[index] for index in sorted(self.choices)]
        calls = [choice.calls[index] for choice in choices for index in sorted(choice.calls)]
        return Reply(
            kind=ReplyKind.CHAT if self.chat else ReplyKind.COMPLETION,
            streamed=streamed,
            text=clean("\f".join("".join(choice.text) for choice in choices)),
            reasoning=clean("".join(self.thoughts)),
            refused=self.refused,
            tool_calls=tuple(call.whole() for call in calls),
            finish_reason=next((choice.finish for choice in choices if choice.finish is not None), None),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            content_chunks=(self.logprobs or self.chunks) if streamed else None,
            mean_logprob=self.logprob_sum / self.logprobs if self.logprobs else None,
            error=error,
            whole=whole,
        )


def tokens(value: Any, otherwise: int | None) -> int | None:
    """Return a count of tokens if it is one."""
    countable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS
    return value if countable else otherwise

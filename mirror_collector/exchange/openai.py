"""What a model said, from the bytes it was said in.

Understands the answers of OpenAI's chat and text completion endpoints, plain and streamed, as vLLM sends
them. Anything else is opaque: it can be compared by its bytes only. Every input yields a `Reply`; broken
JSON, broken UTF-8, absurd nesting and absurd numbers are all just opaque.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.exchange.encoding import decode
from mirror_collector.exchange.sse import events

if TYPE_CHECKING:
    from mirror_collector.exchange.model import Body

__all__ = ["Reply", "ReplyKind", "ToolCall", "read_reply"]

_MAX_DECODED: Final = 8 << 20
_MAX_EVENTS: Final = 50_000
_MAX_CHOICES: Final = 16
_MAX_CALLS: Final = 64
_MAX_TOKENS: Final = 1_000_000_000


class ReplyKind(Enum):
    """What sort of body it is."""

    CHAT = "chat"
    COMPLETION = "completion"
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

    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    content_chunks: int | None = None
    """Events of a stream that carried content, one token each as a rule; None for a plain answer."""

    error: bool = False
    """Whether an error was reported, be it alone or in the middle of a stream."""

    whole: bool = True
    """Whether the answer came to its own end (a finish reason, ``[DONE]``, a closed JSON object)."""


_EMPTY: Final = Reply(kind=ReplyKind.EMPTY)
_OPAQUE: Final = Reply(kind=ReplyKind.OPAQUE)


def read_reply(body: Body) -> Reply:
    """Put an answer together; never raises."""
    if not body.data:
        return _EMPTY
    media = body.content_type.partition(";")[0].strip().lower()
    decoded = decode(body.data, body.content_encoding, limit=_MAX_DECODED)
    if not decoded.understood:
        return _OPAQUE
    if media == "text/event-stream":
        return _streamed(decoded.data)
    if media == "application/json" or media.endswith("+json"):
        return _plain(decoded.data)
    return _OPAQUE


def _plain(data: bytes) -> Reply:
    match _json(data):
        case {"choices": [*choices], **rest}:
            answer = _Assembly()
            for choice in choices[:_MAX_CHOICES]:
                answer.choice(choice, key="message")
            answer.usage(rest.get("usage"))
            return answer.reply(streamed=False, whole=True)
        case {"error": error} if error:
            return Reply(kind=ReplyKind.ERROR, error=True)
        case {"object": "error"}:
            return Reply(kind=ReplyKind.ERROR, error=True)
        case _:
            return _OPAQUE


def _streamed(data: bytes) -> Reply:
    answer = _Assembly()
    done = failed = False
    for event in events(data, limit=_MAX_EVENTS):
        if event.strip() == "[DONE]":
            done = True
            break
        match _json(event):
            case {"choices": [*choices], **rest}:
                said = answer.size
                for choice in choices[:_MAX_CHOICES]:
                    answer.choice(choice, key="delta")
                answer.usage(rest.get("usage"))
                answer.chunks += answer.size > said
            case {"error": error} if error:
                failed = True
            case _:
                # Comments, pings and the piece a cut stream breaks off in.
                continue
    if not answer.seen:
        return Reply(kind=ReplyKind.ERROR, error=True, streamed=True) if failed else _OPAQUE
    return answer.reply(streamed=True, whole=done or answer.finished, error=failed)


@dataclass(slots=True)
class _Call:
    name: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    finish: str | None = None


@dataclass(slots=True)
class _Assembly:
    """Pieces of an answer on their way to a `Reply`."""

    choices: dict[int, _Choice] = field(default_factory=dict)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    chunks: int = 0
    size: int = 0
    """Characters of content so far, reasoning included."""

    seen: bool = False
    chat: bool = False

    @property
    def finished(self) -> bool:
        """Whether every choice named its finish reason."""
        return bool(self.choices) and all(choice.finish is not None for choice in self.choices.values())

    def choice(self, value: Any, *, key: str) -> None:
        """Add one element of ``choices``; `key` names its content: ``message`` or ``delta``."""
        self.seen = True
        if not isinstance(value, dict):
            return
        index = value.get("index", 0)
        if not isinstance(index, int) or not 0 <= index < _MAX_CHOICES:
            return
        choice = self.choices.setdefault(index, _Choice())
        finish = value.get("finish_reason")
        if isinstance(finish, str):
            choice.finish = _clean(finish[:64])
        content = value.get(key)
        if isinstance(content, dict):
            self.chat = True
            self._content(choice, content)
        else:
            self._say(choice.text, value.get("text"))

    def _content(self, choice: _Choice, content: dict[str, Any]) -> None:
        self._say(choice.text, content.get("content"))
        self._say(choice.text, content.get("refusal"))
        for thought in ("reasoning", "reasoning_content"):
            # Thinking costs tokens but is no part of the answer.
            self._say([], content.get(thought))
        calls = content.get("tool_calls")
        if isinstance(calls, list):
            for position, call in enumerate(calls[:_MAX_CALLS]):
                self._call(choice, position, call)

    def _call(self, choice: _Choice, position: int, value: Any) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("function"), dict):
            return
        index = value.get("index", position)
        if not isinstance(index, int) or not 0 <= index < _MAX_CALLS:
            return
        call = choice.calls.setdefault(index, _Call())
        self._say(call.name, value["function"].get("name"))
        self._say(call.arguments, value["function"].get("arguments"))

    def _say(self, pieces: list[str], value: Any) -> None:
        if isinstance(value, str):
            pieces.append(value)
            self.size += len(value)

    def usage(self, value: Any) -> None:
        """Take over token counts; the last report of a stream wins."""
        if isinstance(value, dict):
            self.prompt_tokens = _tokens(value.get("prompt_tokens"), self.prompt_tokens)
            self.completion_tokens = _tokens(value.get("completion_tokens"), self.completion_tokens)

    def reply(self, *, streamed: bool, whole: bool, error: bool = False) -> Reply:
        """Close the account."""
        choices = [self.choices[index] for index in sorted(self.choices)]
        calls = [choice.calls[index] for choice in choices for index in sorted(choice.calls)]
        return Reply(
            kind=ReplyKind.CHAT if self.chat else ReplyKind.COMPLETION,
            streamed=streamed,
            text=_clean("\f".join("".join(choice.text) for choice in choices)),
            tool_calls=tuple(
                ToolCall(name=_clean("".join(call.name)), arguments=_clean("".join(call.arguments)))
                for call in calls
            ),
            finish_reason=next((choice.finish for choice in choices if choice.finish is not None), None),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            content_chunks=self.chunks if streamed else None,
            error=error,
            whole=whole,
        )


def _tokens(value: Any, otherwise: int | None) -> int | None:
    countable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS
    return value if countable else otherwise


def _json(data: bytes | str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _clean(text: str) -> str:
    """Join surrogate pairs and replace halves: JSON can carry them, no file and no socket takes them."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

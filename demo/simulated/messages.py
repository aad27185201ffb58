"""Bodies and events of the Messages API, as the Anthropic API reference describes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from demo.simulated.drafts import Choice, Draft, Finish, ToolCall
from demo.simulated.events import Event, EventKind, UsageStyle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demo.simulated.requests import GenerationRequest

__all__ = ["body", "error_events", "events"]

_STOP_REASONS: Final[Mapping[Finish, str]] = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
}


def body(draft: Draft, request: GenerationRequest, style: UsageStyle) -> dict[str, Any]:
    """Return the message of a finished answer."""
    del request  # Nothing of a request is repeated in its message.
    (choice,) = draft.choices
    document = _message(draft, _content(choice), _STOP_REASONS[choice.finish])
    _put_usage(document, _usage(draft, draft.completion_tokens), style)
    return document


def events(draft: Draft, request: GenerationRequest, style: UsageStyle) -> list[Event]:
    """Return the events from ``message_start`` to ``message_stop``.

    The input tokens are in the first event, and the cumulative output tokens in ``message_delta``.
    """
    del request
    (choice,) = draft.choices
    started = _message(draft, [], None)
    _put_usage(started, _usage(draft, 1), style)
    made = [
        _event("message_start", EventKind.ROLE, message=started),
        _event("ping", EventKind.ROLE),
        *_block_events(choice),
    ]
    if style is UsageStyle.CUMULATIVE:
        made = _cumulative(made)
    delta = {"stop_reason": _STOP_REASONS[choice.finish], "stop_sequence": None}
    end = _event("message_delta", EventKind.CLOSING, delta=delta)
    document = dict(end.document or {})
    _put_usage(document, {"output_tokens": draft.completion_tokens}, style)
    made.append(Event(kind=end.kind, name=end.name, document=document))
    return [*made, _event("message_stop", EventKind.END)]


def error_events(message: str, *, ended: bool) -> list[Event]:
    """Return the events of an error in the midst of a stream; ``ended`` adds ``message_stop``."""
    error = _event("error", EventKind.TOKEN, error={"type": "api_error", "message": message})
    return [error, _event("message_stop", EventKind.END)] if ended else [error]


def _cumulative(made: list[Event]) -> list[Event]:
    counted, done = [], 0
    for event in made:
        counted.append(event)
        if event.kind is EventKind.TOKEN:
            done += 1
            delta = {"stop_reason": None, "stop_sequence": None}
            counted.append(
                _event(
                    "message_delta", EventKind.TOKEN, event.token, delta=delta, usage={"output_tokens": done}
                )
            )
    return counted


def _block_events(choice: Choice) -> list[Event]:
    if not choice.calls:
        if not choice.tokens:
            return []
        return [
            _block_start(0, EventKind.ROLE, 0, {"type": "text", "text": ""}),
            *(
                _delta(0, number, {"type": "text_delta", "text": token})
                for number, token in enumerate(choice.tokens)
            ),
            _event("content_block_stop", EventKind.CLOSING, index=0),
        ]
    made: list[Event] = []
    token = 0
    for index, call in enumerate(choice.calls):
        made.append(_block_start(index, EventKind.TOKEN, token, _tool_use(call, {})))
        made += [
            _delta(index, number, {"type": "input_json_delta", "partial_json": piece})
            for number, piece in enumerate(call.pieces, token + 1)
        ]
        token += len(call.pieces)
        made.append(_event("content_block_stop", EventKind.TOKEN, token, index=index))
        token += 1
    return made


def _block_start(index: int, kind: EventKind, token: int, block: dict[str, Any]) -> Event:
    return _event("content_block_start", kind, token, index=index, content_block=block)


def _delta(index: int, token: int, delta: dict[str, Any]) -> Event:
    return _event("content_block_delta", EventKind.TOKEN, token, index=index, delta=delta)


def _event(name: str, kind: EventKind, token: int = 0, /, **fields: Any) -> Event:
    return Event(kind=kind, name=name, token=token, document={"type": name} | fields)


def _message(draft: Draft, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{draft.request_id}",
        "type": "message",
        "role": "assistant",
        "model": draft.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
    }


def _content(choice: Choice) -> list[dict[str, Any]]:
    if choice.calls:
        return [_tool_use(call, _input(call.arguments)) for call in choice.calls]
    return [{"type": "text", "text": choice.text}] if choice.tokens else []


def _tool_use(call: ToolCall, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": arguments}


def _input(arguments: str) -> Any:
    """Return the value of the arguments; if they are invalid JSON, their text, which is a JSON string."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _put_usage(document: dict[str, Any], usage: dict[str, Any], style: UsageStyle) -> None:
    if style is UsageStyle.NULL:
        document["usage"] = None
    elif style is not UsageStyle.NONE:
        document["usage"] = usage


def _usage(draft: Draft, output: int) -> dict[str, Any]:
    return {
        "input_tokens": draft.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
    }

"""Bodies and events of the Responses API, as its reference describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from demo.simulated.drafts import Choice, Draft, Finish, ToolCall
from demo.simulated.events import Event, EventKind, UsageStyle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demo.simulated.requests import GenerationRequest

__all__ = ["body", "error_events", "events"]

_REPEATED: Final[Mapping[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "auto",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""The fields that an answer repeats from its request, with the values if the request lacks them."""


def body(draft: Draft, request: GenerationRequest, style: UsageStyle) -> dict[str, Any]:
    """Return the response object of a finished answer."""
    (choice,) = draft.choices
    length = choice.finish is Finish.LENGTH
    document = _response(draft, request, "incomplete" if length else "completed", _items(draft, choice))
    if length:
        document["incomplete_details"] = {"reason": "max_output_tokens"}
    if style is UsageStyle.NONE:
        del document["usage"]
    elif style is not UsageStyle.NULL:
        document["usage"] = _usage(draft, draft.completion_tokens)
    return document


def events(draft: Draft, request: GenerationRequest, style: UsageStyle) -> list[Event]:
    """Return the events from ``response.created`` to ``response.completed`` or ``response.incomplete``."""
    (choice,) = draft.choices
    running = _response(draft, request, "in_progress", [])
    created = dict(running)
    if style is UsageStyle.SPLIT:
        created["usage"] = {"input_tokens": draft.prompt_tokens}
    made = [
        _event("response.created", EventKind.OPENING, response=created),
        _event("response.in_progress", EventKind.OPENING, response=running),
    ]
    if choice.calls:
        token = 0
        for index, call in enumerate(choice.calls):
            made += _call_events(call, index, token)
            token += 1 + len(call.pieces)
    elif choice.tokens:
        made += _text_events(draft, choice)
    if style is UsageStyle.CUMULATIVE:
        made = _cumulative(made, draft, running)
    final = body(draft, request, UsageStyle.USUAL if style is UsageStyle.CUMULATIVE else style)
    if style is UsageStyle.SPLIT:
        final["usage"] = {"output_tokens": draft.completion_tokens}
    made.append(_event(f"response.{final['status']}", EventKind.END, response=final))
    return _numbered(made)


def error_events(message: str, *, ended: bool) -> list[Event]:
    """Return the events of an error in the midst of a stream; ``ended`` adds ``response.failed``."""
    error = _event("error", EventKind.TOKEN, code="server_error", message=message, param=None)
    if not ended:
        return [error]
    failed: dict[str, Any] = {
        "object": "response",
        "status": "failed",
        "error": {"code": "server_error", "message": message},
        "output": [],
        "usage": None,
    }
    return [error, _event("response.failed", EventKind.END, response=failed)]


def _numbered(made: list[Event]) -> list[Event]:
    """Return the events with their sequence numbers, from 0."""
    return [
        Event(
            kind=event.kind,
            name=event.name,
            token=event.token,
            document={**(event.document or {}), "sequence_number": number},
        )
        for number, event in enumerate(made)
    ]


def _cumulative(made: list[Event], draft: Draft, running: dict[str, Any]) -> list[Event]:
    """Return the events with one more for each token: the running response with its usage so far."""
    counted, done = [], 0
    for event in made:
        counted.append(event)
        if event.kind is EventKind.TOKEN:
            done += 1
            now = running | {"usage": _usage(draft, done)}
            counted.append(_event("response.in_progress", EventKind.TOKEN, event.token, response=now))
    return counted


def _text_events(draft: Draft, choice: Choice) -> list[Event]:
    place = {"item_id": f"msg_{draft.request_id}", "output_index": 0, "content_index": 0}
    (item,) = _items(draft, choice)
    begun = item | {"status": "in_progress", "content": []}
    part = _text_part("")
    deltas = [
        _event("response.output_text.delta", EventKind.TOKEN, number, **place, delta=token, logprobs=[])
        for number, token in enumerate(choice.tokens)
    ]
    text = choice.text
    return [
        _event("response.output_item.added", EventKind.ROLE, output_index=0, item=begun),
        _event("response.content_part.added", EventKind.ROLE, **place, part=part),
        *deltas,
        _event("response.output_text.done", EventKind.CLOSING, **place, text=text, logprobs=[]),
        _event("response.content_part.done", EventKind.CLOSING, **place, part=_text_part(text)),
        _event("response.output_item.done", EventKind.CLOSING, output_index=0, item=item),
    ]


def _call_events(call: ToolCall, index: int, token: int) -> list[Event]:
    item = _call_item(call)
    place = {"item_id": item["id"], "output_index": index}
    begun = item | {"arguments": "", "status": "in_progress"}
    last = token + len(call.pieces)
    kind = "response.function_call_arguments"
    return [
        _event("response.output_item.added", EventKind.TOKEN, token, output_index=index, item=begun),
        *(
            _event(f"{kind}.delta", EventKind.TOKEN, number, **place, delta=piece)
            for number, piece in enumerate(call.pieces, token + 1)
        ),
        _event(f"{kind}.done", EventKind.TOKEN, last, **place, name=call.name, arguments=call.arguments),
        _event("response.output_item.done", EventKind.TOKEN, last, output_index=index, item=item),
    ]


def _event(name: str, kind: EventKind, token: int = 0, /, **fields: Any) -> Event:
    return Event(kind=kind, name=name, token=token, document={"type": name} | fields)


def _response(
    draft: Draft, request: GenerationRequest, status: str, output: list[dict[str, Any]]
) -> dict[str, Any]:
    given = {name: request.settings[name] for name in _REPEATED if request.settings.get(name) is not None}
    return {
        "id": f"resp_{draft.request_id}",
        "object": "response",
        "created_at": draft.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": draft.model,
        "output": output,
        **_REPEATED,
        **given,
        "usage": None,
    }


def _items(draft: Draft, choice: Choice) -> list[dict[str, Any]]:
    if choice.calls:
        return [_call_item(call) for call in choice.calls]
    if not choice.tokens:
        return []
    return [
        {
            "id": f"msg_{draft.request_id}",
            "type": "message",
            "status": "incomplete" if choice.finish is Finish.LENGTH else "completed",
            "role": "assistant",
            "content": [_text_part(choice.text)],
        }
    ]


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call_item(call: ToolCall) -> dict[str, Any]:
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_{call.id}",
        "name": call.name,
        "arguments": call.arguments,
    }


def _usage(draft: Draft, output: int) -> dict[str, Any]:
    return {
        "input_tokens": draft.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": draft.prompt_tokens + output,
    }

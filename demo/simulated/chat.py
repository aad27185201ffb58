"""Bodies and events of chat completions and text completions, as vLLM 0.32 sends them."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from demo.simulated.events import DONE, Event, EventKind, UsageStyle
from demo.simulated.wire import Api

if TYPE_CHECKING:
    from demo.simulated.drafts import Choice, Draft, Finish, ToolCall
    from demo.simulated.requests import GenerationRequest

__all__ = ["body", "events"]


def body(draft: Draft, request: GenerationRequest, style: UsageStyle) -> dict[str, Any]:
    """Return the body of an answer that is not streamed."""
    make = _chat_choice if request.api is Api.CHAT else _completion_choice
    document = _head(draft, request.api, stream=False) | {
        "choices": [make(choice, index) for index, choice in enumerate(draft.choices)],
        "service_tier": None,
        "system_fingerprint": None,
    }
    if style is UsageStyle.NULL:
        document["usage"] = None
    elif style is not UsageStyle.NONE:
        document["usage"] = _usage(draft, draft.completion_tokens) | {"prompt_tokens_details": None}
    return document


def events(draft: Draft, request: GenerationRequest, style: UsageStyle) -> list[Event]:
    """Return the events of a streamed answer: roles, tokens, usage if requested, the end mark.

    The choices take turns, token by token. The last token of a text has the finish reason, as in vLLM.
    """
    head = _head(draft, request.api, stream=True)
    made: list[Event] = []
    if request.api is Api.CHAT:
        for index in range(len(draft.choices)):
            delta = {"index": index, "delta": {"role": "assistant", "content": ""}}
            role = delta | {"logprobs": None, "finish_reason": None}
            made.append(Event(kind=EventKind.ROLE, document=head | {"choices": [role]}))
        units = [_chat_units(choice, index) for index, choice in enumerate(draft.choices)]
    else:
        units = [_completion_units(choice, index) for index, choice in enumerate(draft.choices)]
    for token, turn in enumerate(zip_longest(*units)):
        made += [
            Event(kind=EventKind.TOKEN, token=token, document=head | {"choices": [unit]})
            for unit in turn
            if unit is not None
        ]
    return [*_with_usage(made, draft, request, style, head), DONE]


def _with_usage(
    made: list[Event], draft: Draft, request: GenerationRequest, style: UsageStyle, head: dict[str, Any]
) -> list[Event]:
    """Return the events with token usage in the places that the request or the fault determines."""
    if not request.include_usage or style is UsageStyle.NONE:
        return made
    last: dict[str, Any] | None = _usage(draft, draft.completion_tokens)
    match style:
        case UsageStyle.NULL:
            made, last = [_with(event, None) for event in made], None
        case UsageStyle.SPLIT:
            made = [_with(made[0], {"prompt_tokens": draft.prompt_tokens}), *made[1:]]
            last = {"completion_tokens": draft.completion_tokens}
        case UsageStyle.CUMULATIVE:
            made = _continuous(made, draft)
        case UsageStyle.USUAL if request.continuous_usage:
            made = _continuous(made, draft)
        case _:
            pass
    return [*made, Event(kind=EventKind.CLOSING, document=head | {"choices": [], "usage": last})]


def _continuous(made: list[Event], draft: Draft) -> list[Event]:
    counted, done = [], 0
    for event in made:
        done = min(done + (event.kind is EventKind.TOKEN), draft.completion_tokens)
        counted.append(_with(event, _usage(draft, done)))
    return counted


def _with(event: Event, usage: dict[str, Any] | None) -> Event:
    return Event(
        kind=event.kind, token=event.token, document={**(event.document or {}), "usage": usage}, raw=event.raw
    )


def _usage(draft: Draft, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": draft.prompt_tokens,
        "total_tokens": draft.prompt_tokens + completion,
        "completion_tokens": completion,
    }


def _head(draft: Draft, api: Api, *, stream: bool) -> dict[str, Any]:
    chat = "chat.completion.chunk" if stream else "chat.completion"
    return {
        "id": f"{'chatcmpl' if api is Api.CHAT else 'cmpl'}-{draft.request_id}",
        "object": chat if api is Api.CHAT else "text_completion",
        "created": draft.created,
        "model": draft.model,
    }


def _chat_choice(choice: Choice, index: int) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": None if choice.calls else choice.text,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": [_tool_call(call) for call in choice.calls],
        "reasoning": None,
    }
    return {"index": index, "message": message} | _end(choice.finish)


def _completion_choice(choice: Choice, index: int) -> dict[str, Any]:
    return {"index": index, "text": choice.text} | _end(choice.finish)


def _end(finish: Finish) -> dict[str, Any]:
    return {"logprobs": None, "finish_reason": finish.value, "stop_reason": None, "token_ids": None}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"chatcmpl-tool-{call.id}", "type": "function", "function": function}


def _chat_units(choice: Choice, index: int) -> list[dict[str, Any]]:
    """Return the ``choices`` element of each token event of one choice.

    These are the tokens of its text, or the fragments of its tool calls followed by the finish reason.
    """
    if not choice.calls:
        tokens = choice.tokens or ("",)
        return [
            _delta(index, {"content": token}, choice.finish if place == len(tokens) - 1 else None)
            for place, token in enumerate(tokens)
        ]
    units = []
    for number, call in enumerate(choice.calls):
        begun = {"index": number} | _tool_call(call) | {"function": {"name": call.name, "arguments": ""}}
        units.append(_delta(index, {"tool_calls": [begun]}, None))
        for piece in call.pieces:
            fragment = {"index": number, "function": {"arguments": piece}}
            units.append(_delta(index, {"tool_calls": [fragment]}, None))
    return [*units, _delta(index, {"content": ""}, choice.finish)]


def _delta(index: int, delta: dict[str, Any], finish: Finish | None) -> dict[str, Any]:
    return {"index": index, "delta": delta} | _streamed_end(finish)


def _completion_units(choice: Choice, index: int) -> list[dict[str, Any]]:
    tokens = choice.tokens or ("",)
    return [
        {"index": index, "text": token} | _streamed_end(choice.finish if place == len(tokens) - 1 else None)
        for place, token in enumerate(tokens)
    ]


def _streamed_end(finish: Finish | None) -> dict[str, Any]:
    end: dict[str, Any] = {"logprobs": None, "finish_reason": finish.value if finish else None}
    if finish:
        end["stop_reason"] = None
    return end | {"token_ids": None}

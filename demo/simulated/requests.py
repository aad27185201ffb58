"""Parses the requests of the four text APIs into one form: chat, completions, Responses and Messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from demo.simulated import wire
from demo.simulated.answers import Question
from demo.simulated.wire import Api, WireError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GenerationRequest", "Tool", "parse"]

_COMPLETION_MAX_TOKENS: Final = 16
_MESSAGE_TOKENS: Final = 4
_NON_TEXT_PART_TOKENS: Final = 256
_MOST_CHOICES: Final = 128
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call; ``parameters`` is the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A validated generation request; ``max_tokens`` is at least 1 and fits the context.

    ``tools`` are the functions of which the answer calls at least one; empty if the answer is text.
    ``settings`` is the request's own document, because a Responses answer repeats some of its fields.
    """

    api: Api
    question: Question
    max_tokens: int
    prompt_tokens: int
    stream: bool
    include_usage: bool
    continuous_usage: bool = False
    seed: int | None = None
    n: int = 1
    tools: tuple[Tool, ...] = ()
    parallel: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    """A prompt: the whole conversation, the text of its last message, and whether a tool's result is last."""

    conversation: str
    last: str
    tokens: int
    tool_result: bool = False


def parse(api: Api, content_type: str, body: bytes, *, model: str, max_model_len: int) -> GenerationRequest:
    """Return the validated request of a body.

    Raises:
        WireError: 400 for an invalid or too long body, 404 for the name of another model.
    """
    document = wire.json_object(content_type, body)
    prompt = _prompt(api, document)
    stream = wire.field(document, "stream", bool, default=False)
    include, continuous = _usage_options(document.get("stream_options"), stream=stream)
    n = wire.integer(document, "n", minimum=1) or 1
    if n > (most := _MOST_CHOICES if api in {Api.CHAT, Api.COMPLETIONS} else 1):
        raise WireError.bad_request(f"n is {n}; this API allows at most {most}.", param="n")
    temperature = wire.number(document, "temperature", default=1.0)
    seed = wire.integer(document, "seed", minimum=None)
    limit = _limit(api, document)
    tools = () if api is Api.COMPLETIONS or prompt.tool_result else _tools(api, document)
    wire.checked_model(document, model)
    return GenerationRequest(
        api=api,
        question=Question(
            conversation=prompt.conversation,
            last=prompt.last,
            temperature=temperature,
            wants_json=_wants_json(document),
        ),
        max_tokens=wire.fitting(
            limit,
            prompt.tokens,
            max_model_len,
            unlimited=_COMPLETION_MAX_TOKENS if api is Api.COMPLETIONS else None,
        ),
        prompt_tokens=prompt.tokens,
        stream=stream,
        include_usage=include or api in {Api.RESPONSES, Api.MESSAGES},
        continuous_usage=continuous,
        seed=seed,
        n=n,
        tools=tools,
        parallel=_parallel(document),
        settings=document,
    )


def _prompt(api: Api, document: Mapping[str, Any]) -> _Prompt:
    match api:
        case Api.COMPLETIONS:
            return _completion_prompt(document.get("prompt"))
        case Api.RESPONSES:
            return _responses_prompt(document)
        case Api.MESSAGES:
            system = document.get("system")
            return _chat_prompt(document.get("messages"), system=system, param="messages")
        case _:
            return _chat_prompt(document.get("messages"), system=None, param="messages")


def _limit(api: Api, document: Mapping[str, Any]) -> int | None:
    """Return the request's own limit of the answer's tokens, or None."""
    if api is Api.RESPONSES:
        return wire.integer(document, "max_output_tokens", minimum=1)
    limit = wire.integer(document, "max_tokens", minimum=1)
    if api is Api.MESSAGES:
        if limit is None:
            raise WireError.bad_request("max_tokens is required.", param="max_tokens")
        return limit
    return wire.integer(document, "max_completion_tokens", minimum=1) or limit


def _responses_prompt(document: Mapping[str, Any]) -> _Prompt:
    """Return the prompt of ``input``: a text, or a list of messages and results of tools."""
    given = document.get("input")
    if isinstance(given, str) and given:
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise WireError.bad_request("input is required: a text or a list of items.", param="input")
    turns: list[object] = []
    for item in given:
        if isinstance(item, dict) and item.get("type") == "function_call_output":
            turns.append({"role": "tool", "content": item.get("output")})
        elif isinstance(item, dict) and "role" not in item and isinstance(item.get("type"), str):
            turns.append({"role": "assistant", "content": None})
        else:
            turns.append(item)
    return _chat_prompt(turns, system=document.get("instructions"), param="input")


def _chat_prompt(messages: object, *, system: object, param: str) -> _Prompt:
    if not isinstance(messages, list) or not messages:
        raise WireError.bad_request(f"{param} is required: a list with at least one message.", param=param)
    turns, last, tokens = [], "", 0
    if system is not None:
        text, _ = _content(system, param)
        turns.append(f"system\x1f{text}\x1e")
        tokens += _MESSAGE_TOKENS + wire.token_count(text)
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise WireError.bad_request("Every message must be an object with a role.", param=param)
        last, other_parts = _content(message.get("content"), param)
        turns.append(f"{message['role']}\x1f{last}\x1e")
        tokens += _MESSAGE_TOKENS + wire.token_count(last) + other_parts * _NON_TEXT_PART_TOKENS
    return _Prompt(
        conversation="".join(turns), last=last, tokens=tokens, tool_result=_is_tool_result(messages[-1])
    )


def _is_tool_result(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    return message["role"] == "tool" or any(part.get("type") == "tool_result" for part in parts)


def _content(content: object, param: str) -> tuple[str, int]:
    """Return (text, number of parts that are not text) of one message."""
    if content is None:
        return "", 0
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise WireError.bad_request("content must be text or a list of parts.", param=param)
    texts = [part.get("text") for part in content if part.get("type") in _TEXT_PARTS]
    if not all(isinstance(text, str) for text in texts):
        raise WireError.bad_request("A text part must have text.", param=param)
    return "\n".join(text for text in texts if isinstance(text, str)), len(content) - len(texts)


def _completion_prompt(prompt: object) -> _Prompt:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return _Prompt(conversation=prompt, last=prompt, tokens=max(1, wire.token_count(prompt)))
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return _Prompt(conversation=repr(prompt), last="", tokens=len(prompt))
    raise WireError.bad_request("prompt is required: a text, or a list of token ids.", param="prompt")


def _usage_options(options: object, *, stream: bool) -> tuple[bool, bool]:
    """Return (usage at the end, usage in every event) of ``stream_options``."""
    if options is None:
        return False, False
    if not isinstance(options, dict):
        raise WireError.bad_request("stream_options must be an object.", param="stream_options")
    if not stream:
        raise WireError.bad_request("stream_options requires stream = true.", param="stream_options")
    include = bool(options.get("include_usage"))
    return include, include and bool(options.get("continuous_usage_stats"))


def _wants_json(document: Mapping[str, Any]) -> bool:
    text = document.get("text")
    wanted = text.get("format") if isinstance(text, dict) else document.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") in {"json_object", "json_schema"}


def _parallel(document: Mapping[str, Any]) -> bool:
    choice = document.get("tool_choice")
    disabled = isinstance(choice, dict) and choice.get("disable_parallel_tool_use") is True
    return document.get("parallel_tool_calls") is not False and not disabled


def _tools(api: Api, document: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Return the functions that may be called: all of the request, the chosen one, or none."""
    given = wire.field(document, "tools", list, default=[])
    tools = tuple(tool for item in given if (tool := _tool(api, item)) is not None)
    choice = document.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else choice
    if kind == "none":
        return ()
    named = choice if isinstance(choice, dict) else {}
    inner = named.get("function")
    name = inner.get("name") if isinstance(inner, dict) else named.get("name")
    if name is None:
        return tools
    chosen = tuple(tool for tool in tools if tool.name == name)
    if not chosen:
        raise WireError.bad_request("tool_choice names a function that is not in tools.", param="tool_choice")
    return chosen


def _tool(api: Api, item: object) -> Tool | None:
    """Return a function tool; None for the server's own tools, which the simulated model never calls."""
    if not isinstance(item, dict):
        raise WireError.bad_request("Every tool must be an object.", param="tools")
    if api is not Api.MESSAGES and item.get("type") != "function":
        return None
    body = item.get("function") if api is Api.CHAT else item
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(name, str):
        raise WireError.bad_request("A function tool must have a name.", param="tools")
    schema = body.get("input_schema" if api is Api.MESSAGES else "parameters")
    return Tool(name=name, parameters=schema if isinstance(schema, dict) else {})

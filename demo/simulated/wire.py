"""vLLM's HTTP format without I/O: parses request bodies, encodes answers, stream events and errors.

Every field is as vLLM 0.32 sends it; the texts of errors are different. One choice per request is supported:
``n`` above 1 is rejected. ``stop``, tools and log probabilities are accepted and ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

from demo.simulated.answers import Question

__all__ = [
    "DONE_EVENT",
    "Api",
    "Envelope",
    "Finish",
    "GenerationRequest",
    "Usage",
    "WireError",
    "encode",
    "parse",
]

_T = TypeVar("_T")

DONE_EVENT: Final = b"data: [DONE]\n\n"
_COMPLETION_MAX_TOKENS: Final = 16
_CHARACTERS_PER_TOKEN: Final = 4
_MESSAGE_TOKENS: Final = 4
_NON_TEXT_PART_TOKENS: Final = 256


class Api(Enum):
    """The two generation endpoints."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"


class Finish(Enum):
    """The finish reason of an answer."""

    STOP = "stop"
    LENGTH = "length"


class WireError(Exception):
    """A request error, sent as vLLM's error object: ``{"error": {message, type, param, code}}``."""

    def __init__(self, status: int, kind: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> bytes:
        """Return the JSON body."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}
        return encode({"error": error})

    @classmethod
    def bad_request(cls, message: str, *, param: str | None = None) -> WireError:
        """Return the error for a body that the endpoint does not accept."""
        return cls(400, "Bad Request", message, param=param)

    @classmethod
    def too_long(cls, message: str) -> WireError:
        """Return the error for a prompt, or a prompt and its answer, longer than the context."""
        return cls(400, "BadRequestError", message)

    @classmethod
    def no_model(cls, name: str) -> WireError:
        """Return the error for a model that this server does not serve."""
        return cls(404, "NotFoundError", f"The model `{name}` does not exist.", param="model")

    @classmethod
    def internal(cls) -> WireError:
        """Return the error of an injected engine failure."""
        return cls(500, "InternalServerError", "The simulated engine failed on purpose.")

    @classmethod
    def header_missing(cls, name: str) -> WireError:
        """Return the error for a request without the required header."""
        return cls(403, "ForbiddenError", f"The simulated server requires the header {name}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A validated generation request; ``max_tokens`` is at least 1 and fits the context."""

    question: Question
    max_tokens: int
    prompt_tokens: int
    stream: bool
    include_usage: bool
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one request and its answer."""

    prompt_tokens: int
    completion_tokens: int

    def document(self) -> dict[str, Any]:
        """Return the ``usage`` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
        }


def encode(document: object) -> bytes:
    """Return compact JSON in UTF-8, without ASCII escapes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def parse(api: Api, content_type: str, body: bytes, *, model: str, max_model_len: int) -> GenerationRequest:
    """Return the validated request of a body.

    Raises:
        WireError: 400 for an invalid or too long body, 404 for the name of another model.
    """
    document = _json_object(content_type, body)
    if api is Api.CHAT:
        conversation, last, prompt_tokens = _chat_prompt(document.get("messages"))
    else:
        conversation, last, prompt_tokens = _completion_prompt(document.get("prompt"))
    stream = _field(document, "stream", bool, default=False)
    include_usage = _include_usage(document.get("stream_options"), stream=stream)
    temperature = _number(document, "temperature", default=1.0)
    seed = _integer(document, "seed", minimum=None)
    limit = _integer(document, "max_completion_tokens", minimum=1) or _integer(
        document, "max_tokens", minimum=1
    )
    if (_integer(document, "n", minimum=1) or 1) > 1:
        raise WireError.bad_request("The simulated server returns one choice; allowed: n = 1.", param="n")
    name = _field(document, "model", str, default=model)
    if name != model:
        raise WireError.no_model(name)
    return GenerationRequest(
        question=Question(
            conversation=conversation,
            last=last,
            temperature=temperature,
            wants_json=_wants_json(document.get("response_format")),
        ),
        max_tokens=_fitting(api, limit, prompt_tokens, max_model_len),
        prompt_tokens=prompt_tokens,
        stream=stream,
        include_usage=include_usage,
        seed=seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The fields shared by the body and all events of one answer."""

    api: Api
    request_id: str
    created: int
    model: str

    @property
    def id(self) -> str:
        """The id of the answer; it contains the client's request id."""
        return f"{'chatcmpl' if self.api is Api.CHAT else 'cmpl'}-{self.request_id}"

    def whole(self, text: str, finish: Finish, usage: Usage) -> bytes:
        """Return the body of an answer that is not streamed."""
        choice: dict[str, Any] = {"index": 0}
        if self.api is Api.CHAT:
            choice["message"] = {
                "role": "assistant",
                "content": text,
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "tool_calls": [],
                "reasoning": None,
            }
        else:
            choice["text"] = text
        choice |= {"logprobs": None, "finish_reason": finish.value, "stop_reason": None, "token_ids": None}
        document = self._head(stream=False) | {
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": usage.document() | {"prompt_tokens_details": None},
        }
        return encode(document)

    def first_event(self) -> bytes:
        """Return the first event of a stream: the role for a chat, nothing for a completion."""
        if self.api is Api.COMPLETIONS:
            return b""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}}
        return self._event({"choices": [choice | {"logprobs": None, "finish_reason": None}]})

    def token_events(self, tokens: tuple[str, ...], finish: Finish) -> list[bytes]:
        """Return one event per token; the last one has the finish reason, as in vLLM."""
        head = encode(self._head(stream=True))[:-1]
        last = len(tokens) - 1
        return [
            b"data: %b,%b}\n\n" % (head, self._choice(token, finish if place == last else None))
            for place, token in enumerate(tokens)
        ]

    def usage_event(self, usage: Usage) -> bytes:
        """Return the usage event, which has no choices."""
        return self._event({"choices": [], "usage": usage.document()})

    def _choice(self, token: str, finish: Finish | None) -> bytes:
        choice: dict[str, Any] = {"index": 0}
        if self.api is Api.CHAT:
            choice["delta"] = {"content": token}
        else:
            choice["text"] = token
        choice |= {"logprobs": None, "finish_reason": finish.value if finish else None}
        if finish:
            choice["stop_reason"] = None
        return encode({"choices": [choice | {"token_ids": None}]})[1:-1]

    def _event(self, rest: dict[str, Any]) -> bytes:
        return b"data: %b\n\n" % encode(self._head(stream=True) | rest)

    def _head(self, *, stream: bool) -> dict[str, Any]:
        chat = "chat.completion.chunk" if stream else "chat.completion"
        return {
            "id": self.id,
            "object": chat if self.api is Api.CHAT else "text_completion",
            "created": self.created,
            "model": self.model,
        }


def _json_object(content_type: str, body: bytes) -> dict[str, Any]:
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise WireError.bad_request("The content type must be application/json.")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError.bad_request(f"The body is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise WireError.bad_request("The body must be a JSON object.")
    return document


def _chat_prompt(messages: object) -> tuple[str, str, int]:
    """Return (conversation, text of the last message, prompt tokens)."""
    if not isinstance(messages, list) or not messages:
        raise WireError.bad_request(
            "messages is required: a list with at least one message.", param="messages"
        )
    turns, last, tokens = [], "", 0
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise WireError.bad_request("Every message must be an object with a role.", param="messages")
        last, other_parts = _content(message.get("content"))
        turns.append(f"{message['role']}\x1f{last}\x1e")
        tokens += _MESSAGE_TOKENS + _token_count(last) + other_parts * _NON_TEXT_PART_TOKENS
    return "".join(turns), last, tokens


def _content(content: object) -> tuple[str, int]:
    """Return (text, number of parts that are not text) of one message."""
    if content is None:
        return "", 0
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise WireError.bad_request("content must be text or a list of parts.", param="messages")
    texts = [part.get("text") for part in content if part.get("type") == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise WireError.bad_request("A text part must have text.", param="messages")
    return "\n".join(text for text in texts if isinstance(text, str)), len(content) - len(texts)


def _completion_prompt(prompt: object) -> tuple[str, str, int]:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt, prompt, max(1, _token_count(prompt))
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return repr(prompt), "", len(prompt)
    raise WireError.bad_request("prompt is required: a text, or a list of token ids.", param="prompt")


def _token_count(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _include_usage(options: object, *, stream: bool) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict):
        raise WireError.bad_request("stream_options must be an object.", param="stream_options")
    if not stream:
        raise WireError.bad_request("stream_options requires stream = true.", param="stream_options")
    return bool(options.get("include_usage"))


def _wants_json(response_format: object) -> bool:
    return isinstance(response_format, dict) and response_format.get("type") in {"json_object", "json_schema"}


def _field(document: dict[str, Any], name: str, kind: type[_T], *, default: _T) -> _T:
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise WireError.bad_request(f"{name} must be of type {kind.__name__}.", param=name)
    return value


def _number(document: dict[str, Any], name: str, *, default: float) -> float:
    value = document.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise WireError.bad_request(f"{name} must be a number of at least 0.", param=name)
    return float(value)


def _integer(document: dict[str, Any], name: str, *, minimum: int | None) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if type(value) is not int or (minimum is not None and value < minimum):
        floor = "" if minimum is None else f" of at least {minimum}"
        raise WireError.bad_request(f"{name} must be an integer{floor}.", param=name)
    return value


def _fitting(api: Api, limit: int | None, prompt_tokens: int, max_model_len: int) -> int:
    """Return the token limit of the answer, which must fit the context."""
    room = max_model_len - prompt_tokens
    if room < 1:
        raise WireError.too_long(
            f"The prompt has {prompt_tokens} tokens; the model's context is {max_model_len} tokens."
        )
    if limit is None:
        return room if api is Api.CHAT else min(room, _COMPLETION_MAX_TOKENS)
    if limit > room:
        raise WireError.too_long(
            f"max_tokens is {limit}; the prompt leaves {room} of {max_model_len} tokens."
        )
    return limit

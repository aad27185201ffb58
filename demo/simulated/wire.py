"""vLLM's HTTP wire without I/O: bodies to frozen requests, answers and errors to bodies and stream events.

Field for field what vLLM 0.32 sends; the texts of errors are our own. It knows one choice per request and
refuses ``n`` above 1; ``stop``, tools and log probabilities are accepted and ignored.
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
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"


class WireError(Exception):
    """A request answered with vLLM's error object: ``{"error": {message, type, param, code}}``."""

    def __init__(self, status: int, kind: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> bytes:
        """The JSON body."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}
        return encode({"error": error})

    @classmethod
    def bad_request(cls, message: str, *, param: str | None = None) -> WireError:
        """A body that is not what the endpoint takes."""
        return cls(400, "Bad Request", message, param=param)

    @classmethod
    def too_long(cls, message: str) -> WireError:
        """A prompt, or prompt and answer together, beyond the context."""
        return cls(400, "BadRequestError", message)

    @classmethod
    def no_model(cls, name: str) -> WireError:
        """A model that is not served here."""
        return cls(404, "NotFoundError", f"The model `{name}` does not exist.", param="model")

    @classmethod
    def internal(cls) -> WireError:
        """A failure of the engine."""
        return cls(500, "InternalServerError", "The simulated engine failed on purpose.")

    @classmethod
    def header_missing(cls, name: str) -> WireError:
        """A request that did not come the way it must."""
        return cls(403, "ForbiddenError", f"The simulated server requires the header {name}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A request to generate, checked. ``max_tokens`` is at least 1 and fits the context."""

    question: Question
    max_tokens: int
    prompt_tokens: int
    stream: bool
    include_usage: bool
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one exchange."""

    prompt_tokens: int
    completion_tokens: int

    def document(self) -> dict[str, Any]:
        """The ``usage`` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
        }


def encode(document: object) -> bytes:
    """Compact JSON, not ASCII-escaped."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def parse(api: Api, content_type: str, body: bytes, *, model: str, max_model_len: int) -> GenerationRequest:
    """A checked request from its body.

    Raises:
        WireError: 400 for a body that is not understood or too long, 404 for another model's name.
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
        raise WireError.bad_request(
            "The simulated server answers with one choice; allowed: n = 1.", param="n"
        )
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
    """What every body and event of one answer carries."""

    api: Api
    request_id: str
    created: int
    model: str

    @property
    def id(self) -> str:
        """The body id: it names the request id the client sent."""
        return f"{'chatcmpl' if self.api is Api.CHAT else 'cmpl'}-{self.request_id}"

    def whole(self, text: str, finish: Finish, usage: Usage) -> bytes:
        """The body of an answer that is not streamed."""
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
        """What opens a stream: the role for a chat, nothing for a completion."""
        if self.api is Api.COMPLETIONS:
            return b""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}}
        return self._event({"choices": [choice | {"logprobs": None, "finish_reason": None}]})

    def token_events(self, tokens: tuple[str, ...], finish: Finish) -> list[bytes]:
        """One event per token; the last one carries the finish reason, as vLLM's does."""
        head = encode(self._head(stream=True))[:-1]
        last = len(tokens) - 1
        return [
            b"data: %b,%b}\n\n" % (head, self._choice(token, finish if place == last else None))
            for place, token in enumerate(tokens)
        ]

    def usage_event(self, usage: Usage) -> bytes:
        """The extra event of ``include_usage``: no choices."""
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
    """(conversation, last message's text, prompt tokens)."""
    if not isinstance(messages, list) or not messages:
        raise WireError.bad_request(
            "messages is required: a list with at least one message.", param="messages"
        )
    told, last, tokens = [], "", 0
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise WireError.bad_request("Every message must be an object with a role.", param="messages")
        last, other_parts = _content(message.get("content"))
        told.append(f"{message['role']}\x1f{last}\x1e")
        tokens += _MESSAGE_TOKENS + _token_count(last) + other_parts * _NON_TEXT_PART_TOKENS
    return "".join(told), last, tokens


def _content(content: object) -> tuple[str, int]:
    """(text, number of parts that are not text) of one message."""
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
        raise WireError.bad_request("stream_options needs stream = true.", param="stream_options")
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
    """How many tokens may be generated within the context."""
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

"""What all APIs of a simulated server share: paths, errors, and readers of request fields. No I/O.

The error objects are those of vLLM 0.32 and, for Messages, of the Anthropic API; the texts are different.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MODEL_PREFIX",
    "PATHS",
    "STREAMED_APIS",
    "Api",
    "WireError",
    "checked_model",
    "encode",
    "field",
    "fitting",
    "integer",
    "json_object",
    "number",
    "token_count",
]

_T = TypeVar("_T")

_CHARACTERS_PER_TOKEN: Final = 4
MODEL_PREFIX: Final = "/v1/models/"


class Api(Enum):
    """The APIs of the server; the values name them in faults and in the books."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    SCORE = "score"
    TRANSCRIPTION = "transcription"
    SPEECH = "speech"
    MODELS = "models"
    OTHER = "other"
    """A path that the server does not have."""


PATHS: Final[Mapping[str, Api]] = {
    "/v1/chat/completions": Api.CHAT,
    "/v1/completions": Api.COMPLETIONS,
    "/v1/responses": Api.RESPONSES,
    "/v1/messages": Api.MESSAGES,
    "/v1/embeddings": Api.EMBEDDINGS,
    "/rerank": Api.RERANK,
    "/v1/rerank": Api.RERANK,
    "/v2/rerank": Api.RERANK,
    "/score": Api.SCORE,
    "/v1/score": Api.SCORE,
    "/v1/audio/transcriptions": Api.TRANSCRIPTION,
    "/v1/audio/translations": Api.TRANSCRIPTION,
    "/v1/audio/speech": Api.SPEECH,
}
"""The paths that accept a POST."""

STREAMED_APIS: Final = frozenset({Api.CHAT, Api.COMPLETIONS, Api.RESPONSES, Api.MESSAGES})
"""The APIs that generate text and can send it as an event stream."""

_KINDS: Final[Mapping[int, str]] = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "ForbiddenError",
    404: "NotFoundError",
    422: "Unprocessable Entity",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "Service Unavailable",
    529: "OverloadedError",
}
_ANTHROPIC_KINDS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class WireError(Exception):
    """A request error, sent as the error object of vLLM or, for Messages, of the Anthropic API."""

    def __init__(self, status: int, kind: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def document(self, api: Api) -> dict[str, Any]:
        """Return the JSON body: the error object of the Anthropic API for Messages, else that of vLLM."""
        if api is Api.MESSAGES:
            kind = _ANTHROPIC_KINDS.get(self.status, "api_error")
            return {"type": "error", "error": {"type": kind, "message": str(self)}}
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}
        return {"error": error}

    @classmethod
    def bad_request(cls, message: str, *, param: str | None = None) -> WireError:
        """Return the error for a body that the endpoint does not accept."""
        return cls(400, "Bad Request", message, param=param)

    @classmethod
    def too_long(cls, message: str) -> WireError:
        """Return the error for an input, or for a prompt and its answer, that is longer than the context."""
        return cls(400, "BadRequestError", message)

    @classmethod
    def no_model(cls, name: str) -> WireError:
        """Return the error for a model that this server does not serve."""
        return cls(404, "NotFoundError", f"The model `{name}` does not exist.", param="model")

    @classmethod
    def injected(cls, status: int) -> WireError:
        """Return the error of an injected failure with an HTTP status."""
        kind = _KINDS.get(status, "InternalServerError")
        return cls(status, kind, "The simulated engine failed on purpose.")

    @classmethod
    def header_missing(cls, name: str) -> WireError:
        """Return the error for a request without the required header."""
        return cls(403, "ForbiddenError", f"The simulated server requires the header {name}.")


def encode(document: object) -> bytes:
    """Return compact JSON in UTF-8, without ASCII escapes."""
    try:
        return orjson.dumps(document)
    except TypeError:  # Text of a request that is no Unicode, such as half of a surrogate pair.
        pass
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def json_object(content_type: str, body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request body.

    Raises:
        WireError: 400 if the content type is not JSON or the body is not a JSON object.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise WireError.bad_request("The content type must be application/json.")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError.bad_request(f"The body is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise WireError.bad_request("The body must be a JSON object.")
    return document


def token_count(text: str) -> int:
    """Return the number of tokens of a prompt: one for each four characters, rounded up."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def checked_model(document: Mapping[str, Any], model: str) -> None:
    """Check that the request names the served model, or no model.

    Raises:
        WireError: 404 for the name of another model, 400 if the name is not a text.
    """
    name = field(document, "model", str, default=model)
    if name != model:
        raise WireError.no_model(name)


def field(document: Mapping[str, Any], name: str, kind: type[_T], *, default: _T) -> _T:
    """Return a field of one type; the default if it is missing or null.

    Raises:
        WireError: 400 if the value has another type.
    """
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise WireError.bad_request(f"{name} must be of type {kind.__name__}.", param=name)
    return value


def number(document: Mapping[str, Any], name: str, *, default: float) -> float:
    """Return a finite number of at least 0, or the default if the field is missing or null.

    Raises:
        WireError: 400 for any other value.
    """
    value = document.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise WireError.bad_request(f"{name} must be a number of at least 0.", param=name)
    return float(value)


def integer(document: Mapping[str, Any], name: str, *, minimum: int | None) -> int | None:
    """Return an integer of at least ``minimum``, or None if the field is missing or null.

    Raises:
        WireError: 400 for any other value.
    """
    value = document.get(name)
    if value is None:
        return None
    if type(value) is not int or (minimum is not None and value < minimum):
        floor = "" if minimum is None else f" of at least {minimum}"
        raise WireError.bad_request(f"{name} must be an integer{floor}.", param=name)
    return value


def fitting(limit: int | None, prompt_tokens: int, max_model_len: int, *, unlimited: int | None) -> int:
    """Return the token limit of the answer, which must fit the context.

    ``limit`` is the limit that the request sets. If it sets none, ``unlimited`` is the limit; if that is
    None, the answer may use all tokens that the prompt leaves.

    Raises:
        WireError: 400 if the prompt, or the prompt and the requested answer, are longer than the context.
    """
    room = max_model_len - prompt_tokens
    if room < 1:
        raise WireError.too_long(
            f"The prompt has {prompt_tokens} tokens; the model's context is {max_model_len} tokens."
        )
    if limit is None:
        return room if unlimited is None else min(room, unlimited)
    if limit > room:
        raise WireError.too_long(
            f"max_tokens is {limit}; the prompt leaves {room} of {max_model_len} tokens."
        )
    return limit

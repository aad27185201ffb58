"""The API a request belongs to: by its path, or else by the shape of the answer."""

from __future__ import annotations

from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mirror_collector.exchange.reply import ReplyKind

if TYPE_CHECKING:
    from mirror_collector.exchange.reply import Reply

__all__ = ["KINDS", "Api", "api_of", "api_of_answer"]


class Api(Enum):
    """An API of a model server; the values are label values of metrics and keys of stored counts."""

    CHAT = "chat"
    """Chat completions."""

    COMPLETIONS = "completions"
    """Text completions."""

    RESPONSES = "responses"
    MESSAGES = "messages"
    """Anthropic Messages."""

    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    SCORE = "score"
    TRANSCRIPTION = "transcription"
    """Transcription or translation of audio."""

    SPEECH = "speech"
    IMAGES = "images"
    MODERATIONS = "moderations"
    MODELS = "models"
    """The list of models, or one model."""

    OTHER = "other"


KINDS: Final[dict[Api, ReplyKind]] = {
    Api.CHAT: ReplyKind.CHAT,
    Api.COMPLETIONS: ReplyKind.COMPLETION,
    Api.RESPONSES: ReplyKind.RESPONSE,
    Api.MESSAGES: ReplyKind.MESSAGE,
    Api.EMBEDDINGS: ReplyKind.EMBEDDINGS,
    Api.RERANK: ReplyKind.RANKING,
    Api.SCORE: ReplyKind.SCORES,
    Api.TRANSCRIPTION: ReplyKind.TRANSCRIPT,
    Api.MODERATIONS: ReplyKind.DOCUMENT,
    Api.MODELS: ReplyKind.DOCUMENT,
}
"""The kind of answer of each API whose answers can be read."""

_BY_KIND: Final[dict[ReplyKind, Api]] = {
    kind: api for api, kind in KINDS.items() if kind is not ReplyKind.DOCUMENT
}

_BY_LAST_SEGMENTS: Final[dict[tuple[str, ...], Api]] = {
    ("chat", "completions"): Api.CHAT,
    ("audio", "transcriptions"): Api.TRANSCRIPTION,
    ("audio", "translations"): Api.TRANSCRIPTION,
    ("audio", "speech"): Api.SPEECH,
    ("images", "generations"): Api.IMAGES,
    ("images", "edits"): Api.IMAGES,
    ("images", "variations"): Api.IMAGES,
}
_BY_LAST_SEGMENT: Final = {
    "completions": Api.COMPLETIONS,
    "responses": Api.RESPONSES,
    "messages": Api.MESSAGES,
    "embeddings": Api.EMBEDDINGS,
    "rerank": Api.RERANK,
    "score": Api.SCORE,
    "moderations": Api.MODERATIONS,
    "models": Api.MODELS,
}


def api_of(path: str) -> Api:
    """Return the API of a request path, with any query and prefix, such as ``/openai/deployments/x``."""
    segments = [segment for segment in path.partition("?")[0].lower().split("/") if segment]
    if not segments:
        return Api.OTHER
    if "threads" in segments[:-1]:
        return Api.OTHER  # The messages of an assistant's thread are no answers.
    api = _BY_LAST_SEGMENTS.get(tuple(segments[-2:])) or _BY_LAST_SEGMENT.get(segments[-1])
    if api is not None:
        return api
    # The name of a model may contain slashes, so `v1/models` can be anywhere in the path. A path such as
    # `v1/models/x:predict` is not a request for the list of models, but a call of the model.
    if ("v1", "models") in pairwise(segments) and ":" not in segments[-1]:
        return Api.MODELS
    return Api.OTHER


def api_of_answer(path: str, reply: Reply) -> Api:
    """Return the API of a request path; if the path names none, the API with answers of the reply's kind."""
    api = api_of(path)
    return _BY_KIND.get(reply.kind, api) if api is Api.OTHER else api

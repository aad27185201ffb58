"""Reading of answers that are numbers: embeddings, rankings and scores."""

from __future__ import annotations

import binascii
import math
import struct
from base64 import b64decode
from typing import Any, Final

from mirror_collector.exchange.reply import Reply, ReplyKind
from mirror_collector.exchange.usage import Usage

__all__ = ["read_embeddings", "read_ranking", "read_scores"]

_FLOAT_BYTES: Final = 4
_MAX_INDEX: Final = 1 << 31


def read_embeddings(value: Any) -> Reply | None:
    """Return the embeddings in ``data``, ordered by ``index``.

    None if there are none, or if any vector or index is invalid. A vector is a list of numbers, or base64 of
    little-endian 32-bit floats.
    """
    match value:
        case {"data": [{"embedding": _}, *_] as items, **rest}:
            pass
        case _:
            return None
    vectors: dict[int, bytes] = {}
    for position, item in enumerate(items):
        if not isinstance(item, dict) or (vector := _vector(item.get("embedding"))) is None:
            return None
        index = item.get("index", position)
        if not _is_index(index) or index in vectors:
            return None
        vectors[index] = vector
    return Reply(
        kind=ReplyKind.EMBEDDINGS,
        vectors=tuple(vectors[index] for index in sorted(vectors)),
        prompt_tokens=_input_tokens(rest.get("usage")),
    )


def _vector(value: Any) -> bytes | None:
    if isinstance(value, list) and value:
        try:
            return struct.pack(f"<{len(value)}f", *value)
        except (struct.error, OverflowError):
            return None
    if isinstance(value, str) and value:
        try:
            data = b64decode(value.encode(), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return None
        return data if len(data) % _FLOAT_BYTES == 0 else None
    return None


def read_ranking(value: Any) -> Reply | None:
    """Return the ranking in ``results`` or in a bare list; None if it is empty or any result is invalid."""
    match value:
        case {"results": [*items], **rest} if items:
            usage = rest.get("usage")
        case [*items] if items:
            usage = None
        case _:
            return None
    scores = _scores(items, "relevance_score", "score")
    if scores is None:
        return None
    return Reply(kind=ReplyKind.RANKING, scores=scores, prompt_tokens=_input_tokens(usage))


def read_scores(value: Any) -> Reply | None:
    """Return the scores in ``data``, ordered by index; None if it is empty or any score is invalid."""
    match value:
        case {"data": [*items], **rest} if items:
            scores = _scores(items, "score")
        case _:
            return None
    if scores is None:
        return None
    return Reply(
        kind=ReplyKind.SCORES, scores=tuple(sorted(scores)), prompt_tokens=_input_tokens(rest.get("usage"))
    )


def _scores(items: list[Any], *names: str) -> tuple[tuple[int, float], ...] | None:
    scores: dict[int, float] = {}
    for position, item in enumerate(items):
        if not isinstance(item, dict):
            return None
        index = item.get("index", position)
        score = next((item[name] for name in names if name in item), None)
        if not _is_index(index) or index in scores or (number := _finite(score)) is None:
            return None
        scores[index] = number
    return tuple(scores.items())


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_INDEX


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _input_tokens(value: Any) -> int | None:
    usage = Usage()
    usage.add(value)
    return usage.input_only

"""The embeddings API: vectors of texts; texts that share words have similar vectors."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from demo.simulated import wire
from demo.simulated.answers import Flavour
from demo.simulated.modes import FaultMode
from demo.simulated.wire import WireError

if TYPE_CHECKING:
    import random

__all__ = ["EmbeddingRequest", "body", "parse"]

_DIMENSIONS: Final = 64
_MOST_DIMENSIONS: Final = 4096
_OTHER_FLAVOUR: Final = 0.1
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """A validated request: one text per vector; ``base64`` selects little-endian float32 in base64."""

    inputs: tuple[str, ...]
    prompt_tokens: int
    dimensions: int
    base64: bool


def parse(content_type: str, body: bytes, *, model: str, max_model_len: int) -> EmbeddingRequest:
    """Return the validated request of a body.

    Raises:
        WireError: 400 for an invalid or too long body, 404 for the name of another model.
    """
    document = wire.json_object(content_type, body)
    inputs, counts = _inputs(document.get("input"))
    wire.checked_model(document, model)
    encoding = wire.field(document, "encoding_format", str, default="float")
    if encoding not in {"float", "base64"}:
        raise WireError.bad_request("encoding_format must be float or base64.", param="encoding_format")
    dimensions = wire.integer(document, "dimensions", minimum=1) or _DIMENSIONS
    if dimensions > _MOST_DIMENSIONS:
        raise WireError.bad_request(f"dimensions must be from 1 to {_MOST_DIMENSIONS}.", param="dimensions")
    if max(counts) > max_model_len:
        raise WireError.too_long(f"An input has {max(counts)} tokens; allowed: {max_model_len}.")
    return EmbeddingRequest(
        inputs=inputs, prompt_tokens=sum(counts), dimensions=dimensions, base64=encoding == "base64"
    )


def body(  # noqa: PLR0913 - the parameters of all APIs without generated text
    request: EmbeddingRequest,
    *,
    request_id: str,
    created: int,
    model: str,
    flavour: Flavour,
    rng: random.Random,
    mode: FaultMode,
) -> dict[str, Any]:
    """Return the body of an answer: one vector of unit length for each input, in order."""
    dimensions = request.dimensions
    if mode is FaultMode.WRONG_DIMENSIONS:
        dimensions = max(1, dimensions // 2) if dimensions > 1 else 2
    data = []
    for index, text in enumerate(request.inputs):
        if mode is FaultMode.EMPTY_TEXT:
            vector: tuple[float, ...] = ()
        elif mode is FaultMode.GIBBERISH:
            vector = _unit([rng.gauss(0, 1) for _ in range(dimensions)])
        else:
            vector = _vector(text, dimensions, flavour)
        packed = struct.pack(f"<{len(vector)}f", *vector)
        # The numbers of both formats are the same float32 values.
        shown: Any = base64.b64encode(packed).decode() if request.base64 else _floats(packed)
        data.append({"object": "embedding", "index": index, "embedding": shown})
    tokens = request.prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    return {
        "id": f"embd-{request_id}",
        "object": "list",
        "created": created,
        "model": model,
        "data": data,
        "usage": usage | {"prompt_tokens_details": None},
    }


def _floats(packed: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))


def _inputs(given: object) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return (texts, their numbers of tokens) of a text, texts, token ids, or lists of token ids."""
    if isinstance(given, str) or (isinstance(given, list) and given and type(given[0]) is int):
        given = [given]
    if not isinstance(given, list) or not given:
        raise WireError.bad_request("input is required: texts or lists of token ids.", param="input")
    texts, counts = [], []
    for item in given:
        if isinstance(item, str) and item:
            texts.append(item)
            counts.append(wire.token_count(item))
        elif isinstance(item, list) and item and all(type(token) is int for token in item):
            texts.append(" ".join(map(str, item)))
            counts.append(len(item))
        else:
            raise WireError.bad_request("Every input must be a text or token ids, not empty.", param="input")
    return tuple(texts), tuple(counts)


def _vector(text: str, dimensions: int, flavour: Flavour) -> tuple[float, ...]:
    """Return the sum of one direction per word; flavour B adds a small direction of its own."""
    words = _WORD.findall(text.lower()) or [text]
    total = [0.0] * dimensions
    for word in words:
        _add(total, word, 1.0)
    if flavour is Flavour.B:
        _add(total, f"\x1f{text}", _OTHER_FLAVOUR * math.sqrt(len(words)))
    return _unit(total)


def _add(total: list[float], word: str, weight: float) -> None:
    """Add the direction of a word, whose length is ``weight``."""
    scale = weight / math.sqrt(len(total))
    for start in range(0, len(total), 512):
        digest = hashlib.blake2b(word.encode("utf-8", "replace"), salt=start.to_bytes(8, "big")).digest()
        for place in range(start, min(start + 512, len(total))):
            bit = digest[(place - start) // 8] >> (place % 8) & 1
            total[place] += scale if bit else -scale


def _unit(values: list[float]) -> tuple[float, ...]:
    length = math.sqrt(sum(value * value for value in values))
    if not length:
        return (1.0, *(0.0 for _ in values[1:]))
    return tuple(value / length for value in values)

"""The rerank and score APIs: how well documents fit a query, by the words that they share."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from demo.simulated import wire
from demo.simulated.modes import FaultMode
from demo.simulated.wire import Api, WireError

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from demo.simulated.answers import Flavour

__all__ = ["RankingRequest", "body", "parse"]

_WORD: Final = re.compile(r"\w+")
_OWN_SHARE: Final = 0.05
_FLAVOUR_SHARE: Final = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingRequest:
    """A validated request: pairs of a query and a document; ``top`` limits the results of a rerank."""

    api: Api
    pairs: tuple[tuple[str, str], ...]
    prompt_tokens: int
    top: int


def parse(api: Api, content_type: str, body: bytes, *, model: str, max_model_len: int) -> RankingRequest:
    """Return the validated request of a body.

    Raises:
        WireError: 400 for an invalid or too long body, 404 for the name of another model.
    """
    document = wire.json_object(content_type, body)
    pairs = _rerank_pairs(document) if api is Api.RERANK else _score_pairs(document)
    wire.checked_model(document, model)
    counts = [wire.token_count(query) + wire.token_count(text) for query, text in pairs]
    if max(counts) > max_model_len:
        raise WireError.too_long(f"A query and document have {max(counts)} tokens; allowed: {max_model_len}.")
    # All documents are listed if `top_n` is 0 or missing.
    top = wire.integer(document, "top_n", minimum=0) or len(pairs)
    return RankingRequest(api=api, pairs=pairs, prompt_tokens=sum(counts), top=top)


def body(  # noqa: PLR0913 - the parameters of all APIs without generated text
    request: RankingRequest,
    *,
    request_id: str,
    created: int,
    model: str,
    flavour: Flavour,
    rng: random.Random,
    mode: FaultMode,
) -> dict[str, Any]:
    """Return the body of an answer: scores in [0, 1] in the order of the request, or results, best first."""
    scores = [
        rng.random() if mode is FaultMode.GIBBERISH else _score(*pair, flavour) for pair in request.pairs
    ]
    if mode is FaultMode.REVERSED_RANKING:
        scores = [1 - score for score in scores]
    usage: dict[str, Any] = {"prompt_tokens": request.prompt_tokens, "total_tokens": request.prompt_tokens}
    if request.api is Api.RERANK:
        results = [
            {"index": index, "document": {"text": text, "multi_modal": None}, "relevance_score": score}
            for index, ((_, text), score) in enumerate(zip(request.pairs, scores, strict=True))
        ]
        results.sort(key=lambda result: (-float(str(result["relevance_score"])), result["index"]))
        shown = [] if mode is FaultMode.EMPTY_TEXT else results[: request.top]
        return {"id": f"rerank-{request_id}", "model": model, "usage": usage, "results": shown}
    data = [{"index": index, "object": "score", "score": score} for index, score in enumerate(scores)]
    return {
        "id": f"score-{request_id}",
        "object": "list",
        "created": created,
        "model": model,
        "data": [] if mode is FaultMode.EMPTY_TEXT else data,
        "usage": usage | {"completion_tokens": 0, "prompt_tokens_details": None},
    }


def _rerank_pairs(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    query = document.get("query")
    if not isinstance(query, str):
        raise WireError.bad_request("query is required: a text.", param="query")
    given = document.get("documents")
    texts = _texts(given if isinstance(given, list) else None, "documents")
    return tuple((query, text) for text in texts)


def _score_pairs(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of two texts: one to one, or one query to many documents."""
    names = ("queries", "documents") if "queries" in document else ("text_1", "text_2")
    first, second = (_texts(document.get(name), name) for name in names)
    if len(first) == 1:
        first *= len(second)
    if len(first) != len(second):
        raise WireError.bad_request(f"{names[0]} must have one text, or as many as {names[1]}.")
    return tuple(zip(first, second, strict=True))


def _texts(given: object, name: str) -> list[str]:
    """Return the texts of a text, a list of texts, or a list of objects with ``text``."""
    items = [given] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise WireError.bad_request(f"{name} is required: a text or a list of texts.", param=name)
    texts = [item.get("text") if isinstance(item, dict) else item for item in items]
    if not all(isinstance(text, str) for text in texts):
        raise WireError.bad_request(
            f"Every item of {name} must be a text, or an object with a text.", param=name
        )
    return [text for text in texts if isinstance(text, str)]


def _score(query: str, text: str, flavour: Flavour) -> float:
    """Return the score of a pair in [0, 1]: mostly the share of the query's words that the document has.

    A small part is a hash of the pair, and a smaller part a hash of the pair and the flavour.
    """
    wanted = set(_WORD.findall(query.lower()))
    share = len(wanted & set(_WORD.findall(text.lower()))) / len(wanted) if wanted else 0.0
    own = _draw(f"{query}\x1f{text}")
    other = _draw(f"{flavour.value}\x1f{query}\x1f{text}")
    return round((1 - _OWN_SHARE - _FLAVOUR_SHARE) * share + _OWN_SHARE * own + _FLAVOUR_SHARE * other, 6)


def _draw(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest()) / 2**32

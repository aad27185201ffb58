"""Similarity of meaning by static word embeddings; needs the `embedding` extra and downloads nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["EmbeddingSimilarity", "load_embedding_similarity"]

EmbeddingSimilarity = Callable[[str, str], float | None]
"""Returns the cosine similarity of two texts' embeddings, clamped to [0, 1]; None if either text is empty."""


def load_embedding_similarity() -> EmbeddingSimilarity | None:
    """Load the embedding model that is part of the `wordllama` package; None if it is not installed."""
    try:
        import wordllama  # noqa: PLC0415 - an extra of its own
    except ImportError:
        return None
    # The wheel contains weights and tokenizer; the default cache folder would lack the tokenizer.
    folder = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    def similarity(first: str, second: str) -> float | None:
        if not first.strip() or not second.strip():
            return None
        return min(1.0, max(0.0, float(model.similarity(first, second))))

    return similarity

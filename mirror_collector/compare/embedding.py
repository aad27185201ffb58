"""Likeness of meaning by static word embeddings, where the extra is installed; nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["Embedder", "load_embedder"]

Embedder = Callable[[str, str], float | None]
"""Two texts → cosine of their meanings, 0 to 1; None where either is empty."""


def load_embedder() -> Embedder | None:
    """Load the model that comes with the package; None where that is not installed."""
    try:
        import wordllama  # noqa: PLC0415 - an extra of its own
    except ImportError:
        return None
    # The weights and the tokenizer are in the wheel; the usual folder for downloads would miss the latter.
    folder = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    def similarity(first: str, second: str) -> float | None:
        if not first.strip() or not second.strip():
            return None
        return min(1.0, max(0.0, float(model.similarity(first, second))))

    return similarity

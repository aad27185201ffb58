"""Token counts that an answer reports about itself, in the spelling of any API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Usage"]

_MAX_TOKENS: Final = 1_000_000_000
_CACHED: Final = ("cache_creation_input_tokens", "cache_read_input_tokens")
"""Input tokens of the Messages API that its ``input_tokens`` excludes; no other API has these fields."""

_FIELDS: Final = (
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    *_CACHED,
)


@dataclass(slots=True)
class Usage:
    """The newest count of each field; a stream may report its usage in parts, or cumulatively."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, value: Any) -> None:
        """Add one report; implausible counts and other fields are ignored."""
        if isinstance(value, dict):
            for name in _FIELDS:
                count = value.get(name)
                if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= _MAX_TOKENS:
                    self.counts[name] = count

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens of the request, including those read from a cache."""
        counts = self.counts
        if "prompt_tokens" in counts:
            return counts["prompt_tokens"]
        if "input_tokens" not in counts:
            return None
        return counts["input_tokens"] + sum(counts.get(name, 0) for name in _CACHED)

    @property
    def completion_tokens(self) -> int | None:
        """Tokens of the answer."""
        return self.counts.get("completion_tokens", self.counts.get("output_tokens"))

    @property
    def input_only(self) -> int | None:
        """Tokens of a request whose answer has none, such as one for embeddings."""
        prompt = self.prompt_tokens
        return self.counts.get("total_tokens") if prompt is None else prompt

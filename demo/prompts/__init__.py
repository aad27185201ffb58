"""The prompts of the demo: everyday questions in seven categories, some with a second turn."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

__all__ = ["Prompt", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt; ``second_turn`` continues the conversation after the first answer."""

    id: str
    category: str
    text: str
    second_turn: str | None = None


def load() -> tuple[Prompt, ...]:
    """Return all prompts, in the order of the file."""
    text = resources.files(__name__).joinpath("prompts.jsonl").read_text(encoding="utf-8")
    return tuple(Prompt(**json.loads(line)) for line in text.splitlines())

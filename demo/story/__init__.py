"""The story of `make demo`: shadow, canary and automatic rollback of a model under live traffic."""

from __future__ import annotations

from demo.story.play import Options, play

__all__ = ["Options", "play"]

"""The story of `make demo`: one model replaces another under live traffic, and a bad one is taken back."""

from __future__ import annotations

from demo.story.play import Options, play

__all__ = ["Options", "play"]

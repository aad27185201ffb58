"""A model as a judge of pairs: which of two answers is better, asked in both orders. Off by default."""

from __future__ import annotations

from mirror_collector.judge.budget import Budget
from mirror_collector.judge.judge import Judge, JudgeConfig
from mirror_collector.judge.prompt import (
    Choice,
    Judgement,
    JudgePrompt,
    combined,
    messages,
    parse_choice,
    question,
)

__all__ = [
    "Budget",
    "Choice",
    "Judge",
    "JudgeConfig",
    "JudgePrompt",
    "Judgement",
    "combined",
    "messages",
    "parse_choice",
    "question",
]

"""A model as a judge of pairs: which of two answers is better, asked in both orders. Off by default."""

from __future__ import annotations

from mirror_collector.consumers.judge.budget import Budget
from mirror_collector.consumers.judge.judge import Judge, JudgeConfig
from mirror_collector.consumers.judge.prompt import (
    Choice,
    Judgement,
    JudgePrompt,
    combined,
    messages,
    parse_choice,
    question,
)
from mirror_collector.consumers.judge.recorder import JudgementRecorder

__all__ = [
    "Budget",
    "Choice",
    "Judge",
    "JudgeConfig",
    "JudgePrompt",
    "Judgement",
    "JudgementRecorder",
    "combined",
    "messages",
    "parse_choice",
    "question",
]

"""A model that judges, for a sample of pairs, which of two answers is better. Disabled by default."""

from __future__ import annotations

from mirror_collector.consumers.judge.budget import Budget
from mirror_collector.consumers.judge.judge import Judge, JudgeConfig
from mirror_collector.consumers.judge.prompt import (
    DEFAULT_PROMPT,
    Choice,
    Judgement,
    JudgePrompt,
    combine,
    judge_messages,
    parse_choice,
    request_text,
)
from mirror_collector.consumers.judge.recorder import JudgementRecorder

__all__ = [
    "DEFAULT_PROMPT",
    "Budget",
    "Choice",
    "Judge",
    "JudgeConfig",
    "JudgePrompt",
    "Judgement",
    "JudgementRecorder",
    "combine",
    "judge_messages",
    "parse_choice",
    "request_text",
]

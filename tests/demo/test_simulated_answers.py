"""Responses of simulated models, and the prompts of the traffic."""

from __future__ import annotations

import json
import random

import pytest
from rapidfuzz.distance import LCSseq

from demo import prompts
from demo.simulated import Flavour
from demo.simulated.answers import Question, answer
from demo.units import duration
from tests.support.simulated import serving, text_of


def _text(prompt: str, flavour: Flavour, *, temperature: float = 0.0, seed: int = 0) -> str:
    question = Question(conversation=prompt, last=prompt, temperature=temperature)
    return answer(question, flavour, random.Random(seed)).text


@pytest.mark.parametrize("prompt", prompts.load(), ids=lambda prompt: prompt.id)
def test_flavours_are_similar_and_never_equal(prompt: prompts.Prompt) -> None:
    old, new = _text(prompt.text, Flavour.A), _text(prompt.text, Flavour.B)
    similarity = LCSseq.normalized_similarity(old.split(), new.split())
    assert old != new
    assert similarity > 0.6
    assert old != _text(prompt.text, Flavour.A, temperature=1.0, seed=3) or old != _text(
        prompt.text, Flavour.A, temperature=1.0, seed=4
    )


async def test_temperature_zero_does_not_depend_on_the_servers_seed() -> None:
    async with serving(seed=1) as (_, one), serving(seed=2) as (_, other):
        assert await text_of(one, temperature=0) == await text_of(other, temperature=0)


async def test_sampling_varies_and_a_seed_fixes_it() -> None:
    async with serving() as (_, session):
        sampled = {await text_of(session, temperature=1.0) for _attempt in range(20)}
        fixed = {await text_of(session, temperature=1.0, seed=11) for _attempt in range(5)}
    assert len(sampled) > 1
    assert len(fixed) == 1


async def test_json_is_answered_where_json_is_asked_for() -> None:
    async with serving() as (_, session):
        text = await text_of(session, response_format={"type": "json_object"})
    assert set(json.loads(text)) == {"summary", "points", "topic"}


@pytest.mark.parametrize(("text", "seconds"), [("20ms", 0.02), ("1.5s", 1.5), ("2m", 120.0), ("0ms", 0.0)])
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["20", "", "s", "-1s", "1h", "1 s x"])
def test_durations_without_a_known_unit_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration(text)


def test_prompts_are_many_and_distinct() -> None:
    loaded = prompts.load()
    assert len(loaded) >= 80
    assert len({prompt.id for prompt in loaded}) == len(loaded)
    assert len({prompt.text for prompt in loaded}) == len(loaded)
    assert len({prompt.category for prompt in loaded}) == 7
    assert any(prompt.second_turn for prompt in loaded)

"""How long something lasts, as people say it."""

from __future__ import annotations

import pytest

from xds_server.rollout import length


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (6, "6 s"),
        (90, "1 min 30 s"),
        (3_600, "1 h"),
        (5_400, "1 h 30 min"),
        (86_400, "1 d"),
        (259_200, "3 d"),
    ],
)
def test_lengths(seconds: float, words: str) -> None:
    assert length(seconds) == words

"""The delays of the retry policy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xds_server.retry import RetryPolicy


def test_the_delay_doubles_up_to_the_longest_delay() -> None:
    policy = RetryPolicy(first_delay=0.5, longest_delay=15.0)
    assert [policy.delay(attempt) for attempt in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]


def test_jitter_shortens_the_delay_by_a_random_share() -> None:
    policy = RetryPolicy(first_delay=4.0, longest_delay=100.0, factor=3.0, jitter=0.5)
    assert [policy.delay(0, random) for random in (0.0, 0.5, 1.0)] == [2.0, 3.0, 4.0]
    assert policy.delay(2, 0.0) == 18.0


@given(
    st.floats(0.001, 60.0),
    st.floats(60.0, 3_600.0),
    st.floats(1.0, 10.0),
    st.floats(0.0, 1.0),
    st.integers(0, 10**6),
    st.floats(0.0, 1.0),
)
def test_every_delay_is_within_bounds(
    first: float, longest: float, factor: float, jitter: float, attempt: int, random: float
) -> None:
    policy = RetryPolicy(first_delay=first, longest_delay=longest, factor=factor, jitter=jitter)
    assert first * (1 - jitter) * 0.999 <= policy.delay(attempt, random) <= longest * 1.001
    assert policy.delay(attempt) <= policy.delay(attempt + 1) * 1.001

"""What is found on a short way for most legs is what the long way finds: both are walked, and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.compare.language import language
from mirror_collector.compare.similarity import rouge_l
from mirror_collector.compare.traits import _REFUSAL, _refuses
from mirror_collector.exchange.completions import Assembly
from mirror_collector.exchange.log_entry import _times
from mirror_collector.exchange.sse import events

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = st.sampled_from(
    [b"data: one", b"data:two", b"data", b"data: ", b": ping", b"event: x", b"", b"dat", b"id"]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
ASCII = st.text(st.characters(max_codepoint=127), max_size=200)
WORDS = st.lists(
    st.sampled_from(["the", "and", "of", "der", "die", "das", "le", "Et", "THE", "x_1", "3", "don't", "a-b"]),
    max_size=30,
)
PIECES = st.fixed_dictionaries(
    {
        "delta": st.sampled_from(
            [{"content": "a"}, {"content": ""}, {"content": None}, {"content": 3}, {}, None]
        )
        | st.just({"role": "assistant", "content": "b"})
    },
    optional={
        "index": st.sampled_from([0, 1, 99, -1, False, "0", None]),
        "finish_reason": st.sampled_from([None, "stop", ""]),
        "logprobs": st.sampled_from([None, {"content": [{"logprob": -0.5}]}]),
        "text": st.just("t"),
    },
)
EVENTS = st.lists(
    st.tuples(st.lists(PIECES | st.just("?"), max_size=2), st.sampled_from([None, {"completion_tokens": 3}])),
    max_size=6,
)


def by_lines(body: bytes) -> Iterator[bytes]:
    """Yield events as the standard says it, line by line."""
    data: list[bytes] = []
    for line in [*body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), b""]:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line == b"data":
            data.append(b"")
        elif not line and data:
            yield b"\n".join(data)
            data = []


@given(st.lists(st.tuples(LINES, ENDS), max_size=20), st.integers(1, 5))
def test_events_are_those_of_their_lines(lines: list[tuple[bytes, bytes]], limit: int) -> None:
    body = b"".join(line + end for line, end in lines)
    assert list(events(body, limit=limit)) == list(by_lines(body))[:limit]


@given(EVENTS)
def test_an_answer_is_put_together_the_same(stream: list[tuple[list[Any], Any]]) -> None:
    short, long = Assembly(), Assembly()
    for choices, usage in stream:
        short.event(choices, usage)
        said = long.size
        for choice in choices:
            long.choice(choice, key="delta")
        if usage is not None:
            long.usage(usage)
        long.chunks += long.size > said
    assert short == long


@given(ASCII | WORDS.map(" ".join), ASCII | WORDS.map(" ".join))
def test_texts_of_plain_letters_compare_as_any_others(first: str, second: str) -> None:
    # An ellipsis is no word and no letter, and takes the long way.
    assert rouge_l(first, second) == rouge_l(f"{first} \N{HORIZONTAL ELLIPSIS}", second)
    assert language(first) == language(f"\N{HORIZONTAL ELLIPSIS} {first}"[:400])


@given(st.from_regex(_REFUSAL) | ASCII)
def test_no_refusal_is_overlooked(opening: str) -> None:
    assert _refuses(opening) is (_REFUSAL.search(opening) is not None)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=20))
def test_times_of_chunks_are_read_as_they_were_written(chunks: list[tuple[int, int]]) -> None:
    assert _times(",".join(f"{at}:{size}" for at, size in chunks)) == chunks
    assert _times("x" + ",".join(f"{at}:{size}" for at, size in chunks)) == []

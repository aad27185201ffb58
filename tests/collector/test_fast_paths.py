"""The fast paths return the same results as the general code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.compare.language import detect_language
from mirror_collector.compare.similarity import rouge_l
from mirror_collector.compare.traits import _REFUSAL, _is_refusal
from mirror_collector.exchange.completions import CompletionBuilder
from mirror_collector.exchange.log_entry import _times
from mirror_collector.exchange.sse import event_data

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
        "error": st.sampled_from([None, {"message": "boom"}]),
    },
)
EVENTS = st.lists(
    st.tuples(st.lists(PIECES | st.just("?"), max_size=2), st.sampled_from([None, {"completion_tokens": 3}])),
    max_size=6,
)


def by_lines(body: bytes) -> Iterator[bytes]:
    """Yield the data of events, parsed line by line as in the standard."""
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
def test_events_equal_those_of_a_line_parser(lines: list[tuple[bytes, bytes]], limit: int) -> None:
    body = b"".join(line + end for line, end in lines)
    assert list(event_data(body, limit=limit)) == list(by_lines(body))[:limit]


@given(EVENTS)
def test_the_fast_path_builds_the_same_completion(stream: list[tuple[list[Any], Any]]) -> None:
    fast, general = CompletionBuilder(), CompletionBuilder()
    for choices, usage in stream:
        fast.add_event(choices, usage)
        size_before = general.size
        for choice in choices:
            general.add_choice(choice, key="delta")
        if usage is not None:
            general.add_usage(usage)
        general.chunks += general.size > size_before
        general.seen = True
    assert fast == general


@given(ASCII | WORDS.map(" ".join), ASCII | WORDS.map(" ".join))
def test_ascii_texts_compare_like_other_texts(first: str, second: str) -> None:
    # An ellipsis is neither word nor letter, and forces the general code.
    assert rouge_l(first, second) == rouge_l(f"{first} \N{HORIZONTAL ELLIPSIS}", second)
    assert detect_language(first) == detect_language(f"\N{HORIZONTAL ELLIPSIS} {first}"[:400])


@given(st.from_regex(_REFUSAL) | ASCII)
def test_the_hints_miss_no_refusal(opening: str) -> None:
    assert _is_refusal(opening) is (_REFUSAL.search(opening) is not None)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=20))
def test_chunk_times_are_parsed_as_written(chunks: list[tuple[int, int]]) -> None:
    assert _times(",".join(f"{at}:{size}" for at, size in chunks)) == chunks
    assert _times("x" + ",".join(f"{at}:{size}" for at, size in chunks)) == []

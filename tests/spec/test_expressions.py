"""Regular expressions that Envoy accepts, and those it rejects."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.spec.check.regex import RegexError, expanded_length


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 0),
        ("eu-[a-z]+-[0-9]{1,3}", 24),
        ("(?i)gold|silver", 11),
        (r"\d{3}\.[^\]a-]*?", 15),
        ("(?:ab){10}", 30),
        ("(a{10}b){10}", 120),
        ("a{1000}", 1_000),
        ("(?P<name>x)?$", 3),
        ("(?i-s:x)", 2),
        ("[]a]{2}", 8),
        ("a{", 2),
        ("a{x}", 4),
        ("a{0}b", 2),
        (r"\+\{\\", 6),
    ],
)
def test_the_length_counts_expanded_repetitions(text: str, size: int) -> None:
    assert expanded_length(text) == size


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(?=a)", "lookahead"),
        ("(?!a)", "lookahead"),
        ("(?<=a)b", "lookbehind"),
        ("(?<!a)b", "lookbehind"),
        (r"(a)\1", "backreferences"),
        (r"\0", "octal escapes"),
        ("(?<name>a)", "named groups"),
        ("(?P<a>b)(?P=a)", "backreferences"),
        ("(?>a)", "atomic"),
        ("(a)(?(1)b|c)", "conditional groups"),
        ("a++", "possessive"),
        ("a*+", "possessive"),
        ("a?+", "possessive"),
        ("a{2}+", "possessive"),
        (r"a\Z", r"\Z"),
        (r"a\u0041", r"\u"),
        (r"\é", r"\é"),
        (r"[\b]", r"\b"),
        ("(?x)a", "(?x)"),
        ("(?#a)", "(?#a"),
        ("(?P<é>a)", "(?P<"),
        ("[[:alpha:]]", "must be escaped"),
        ("[a--b]", "-- must be escaped"),
        ("[a&&b]", "must be escaped"),
        ("a{,3}", "{0,N}"),
        ("a{1001}", "must not exceed 1000"),
        ("a{99999999999999999999}", "must not exceed 1000"),
        ("(a{40}){30}", "multiplied"),
        ("((a{40}b)c{2}){30}", "multiplied"),
        ("(" * 51 + ")" * 51, "deeper"),
        ("(a", "unterminated"),
        ("a)", "unbalanced"),
        ("[a", "unterminated"),
        ("*a", "nothing to repeat"),
        ("a**", "multiple repeat"),
        ("a{3,2}", "min repeat"),
        ("a\\", "escape"),
        ("(?P<a>b)(?P<a>c)", "redefinition"),
    ],
)
def test_an_unsupported_expression_is_rejected_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(RegexError) as error:
        expanded_length(text)
    assert reason in str(error.value)


@given(st.text(alphabet="ab(){}[]|*+?\\^$.,-:<>=!P1iZ0&#", max_size=24))
def test_any_text_has_a_length_or_a_regex_error(text: str) -> None:
    with suppress(RegexError):
        assert expanded_length(text) >= 0

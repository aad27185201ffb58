"""Redaction of secrets in texts, bodies and replies."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.exchange import Body, Reply, ReplyKind, ToolCall
from mirror_collector.exchange.redaction import MASKED, Redaction, SecretKind, _may_contain_secret

REDACTION = Redaction()

PLANTED = {
    "jo.doe+x@example.co.uk": "email",
    "4111 1111 1111 1111": "card",
    "5500-0000-0000-0004": "card",
    "378282246310005": "card",
    "+49 170 1234567": "phone",
    "(030) 123-456-789": "phone",
    "sk-abcdefghijklmnopqrstuvwx": "secret",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789": "secret",
    "AKIAABCDEFGHIJKLMNOP": "secret",
    "xoxb-123456789012-abcdefghij": "secret",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.SflKxwRJSMeKKF2QT4fw": "secret",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----": "secret",
}


@pytest.mark.parametrize(("planted", "kind"), PLANTED.items())
def test_secrets_are_detected_by_pattern(planted: str, kind: str) -> None:
    assert REDACTION.text(f"so, {planted} is it") == f"so, [{kind}] is it"
    other_kinds = Redaction(
        classes=frozenset(SecretKind) - {SecretKind(kind), SecretKind.PHONE, SecretKind.CARD}
    )
    assert planted in other_kinds.text(f"so, {planted} is it")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Authorization: Bearer abcdef123456==", "Authorization: Bearer [bearer]"),
        ("my password is hunter2hunter", "my password is [secret]"),
        ('{"api_key": "abcdef123"}', '{"api_key": "[secret]"}'),
    ],
)
def test_secrets_are_detected_by_their_name(text: str, left: str) -> None:
    assert REDACTION.text(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "in 2023 there were 12,345,678 of them, 3.14159265358979 each",
        "the bearer of bad news kept it secret",
        "call f(x) at 10:45:12, version 1.2.3",
        "1234567890123456",  # no card: the check digit is wrong
        "",
    ],
)
def test_other_texts_are_not_changed(text: str) -> None:
    assert REDACTION.text(text) == text


@given(st.text(max_size=60), st.sampled_from(sorted(PLANTED)), st.text(max_size=60))
def test_the_hints_miss_no_secret(before: str, planted: str, after: str) -> None:
    assert _may_contain_secret(f"{before} {planted} {after}".encode("utf-8", "replace"))


def body(value: Any, **more: Any) -> Body:
    return Body(data=value if isinstance(value, bytes) else json.dumps(value).encode(), **more)


def test_keys_and_values_of_json_are_redacted() -> None:
    message = {
        "messages": [{"content": "hi\nsk-abcdefghijklmnopqrstuv"}],
        "n": 1,
        "user@example.com": 4111111111111111,
    }
    redacted = REDACTION.body(body(message))
    assert redacted is not None
    assert json.loads(redacted) == {
        "messages": [{"content": "hi\n[secret]"}],
        "n": 1,
        "[email]": "[card]",
    }


def test_escape_sequences_are_decoded() -> None:
    assert REDACTION.body(b_escaped := body(rb'{"a": "jo\u0040example.com"}')) == b'{"a":"[email]"}', (
        b_escaped
    )


def test_compressed_bodies_are_redacted() -> None:
    redacted = REDACTION.body(body(gzip.compress(b'{"a": "jo@example.com"}'), content_encoding="gzip"))
    assert redacted == b'{"a":"[email]"}'


@pytest.mark.parametrize(
    "data",
    [
        Body(data=b"\x1f\x9d\x90", content_encoding="compress"),
        Body(data=b"no brotli", content_encoding="br"),
        Body(data=b"\xff\xfe\x00 not text"),
    ],
)
def test_unreadable_bodies_are_not_stored(data: Body) -> None:
    assert REDACTION.body(data) is None
    assert Redaction(classes=frozenset()).body(data) == data.data


def test_truncated_bodies_are_redacted_as_text() -> None:
    assert REDACTION.body(
        body(b'{"a": "x\\njo@example.com", "b": "gr\xc3')
    ) == b'{"a": "x\n[email], "b": "gr'.replace(b"[email]", b'[email]"')


def test_masks_hide_fields() -> None:
    def mask(value: Any) -> None:
        value["user"] = MASKED

    masked = Redaction(masks=(mask,))
    assert masked.body(body({"user": "ada", "a": 1})) == b'{"user":"[masked]","a":1}'
    assert masked.body(body(b'{"user": "ad')) is None, "fields of truncated JSON cannot be located"


def test_assembled_replies_are_redacted() -> None:
    reply = Reply(
        kind=ReplyKind.CHAT,
        text="write to jo@example.com",
        reasoning="card 4111111111111111",
        tool_calls=(ToolCall(name="f", arguments='{"to": "jo\\u0040example.com"}'),),
    )
    redacted = REDACTION.reply(reply)
    assert (redacted.text, redacted.reasoning) == ("write to [email]", "card [card]")
    assert redacted.tool_calls[0].arguments == '{"to":"[email]"}'


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        max_leaves=20,
    )
)
def test_any_json_can_be_redacted(value: Any) -> None:
    plain = Redaction(classes=frozenset({SecretKind.BEARER}), masks=(lambda _value: None,))
    data = json.dumps(value).encode()
    redacted = plain.body(Body(data=data))
    assert (
        redacted is None
        or isinstance(json.loads(redacted.decode("utf-8", "replace")), type(value))
        or redacted
    )

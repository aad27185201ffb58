"""Parsing of log entries and JSON documents into legs, or rejections with a reason."""

from __future__ import annotations

import dataclasses
import gzip
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.exchange import (
    Failure,
    Leg,
    LogMessage,
    Rejection,
    RejectionReason,
    Role,
    parse_document,
    parse_entry,
    parse_message,
)
from mirror_collector.wire import accesslog_pb2 as wire
from tests.collector.builders import T0, EntryParts, chat_json, chat_stream, document, entry, message


def parse(parts: EntryParts | None = None, **overrides: str | None) -> Leg:
    leg = parse_entry(bytes(entry(parts or EntryParts(), **overrides)), node="envoy-1")
    assert isinstance(leg, Leg), leg
    return leg


def rejection_reason(**overrides: str | None) -> RejectionReason:
    rejection = parse_entry(bytes(entry(EntryParts(), **overrides)))
    assert isinstance(rejection, Rejection)
    return rejection.reason


def test_an_entry_encoded_by_envoys_definitions_is_parsed() -> None:
    leg = parse()
    body = chat_json("hello world")
    assert (leg.route, leg.role, leg.request_id, leg.variant) == ("chat", Role.PRIMARY, "r1", "v1")
    assert (leg.method, leg.path, leg.node) == ("POST", "/v1/chat/completions", "envoy-1")
    assert (leg.status, leg.details, leg.attempts) == (200, "via_upstream", 2)
    assert leg.request.data == b'{"stream":false}'
    assert (leg.request.total, leg.request.content_type) == (16, "application/json")
    assert leg.response.data == body
    assert (leg.response.total, leg.response.content_type) == (len(body), "application/json")
    assert (leg.started_us, leg.request_ended_us, leg.headers_us) == (T0, T0 + 100, T0 + 10_000)
    assert (leg.first_chunk_us, leg.last_chunk_us, leg.chunks) == (T0 + 21_000, T0 + 21_001, 2)
    assert leg.complete
    assert leg.succeeded
    assert not leg.client_left
    assert leg.failure is None


def test_field_numbers_equal_those_of_envoy() -> None:
    envoy = entry(EntryParts())
    common, request, response = envoy.common_properties, envoy.request, envoy.response
    assert common is not None
    envoy_messages: dict[Any, Any] = {
        wire.HTTPAccessLogEntry: envoy,
        wire.AccessLogCommon: common,
        wire.ResponseFlags: common.response_flags,
        wire.Metadata: common.metadata,
        wire.HTTPRequestProperties: request,
        wire.HTTPResponseProperties: response,
    }
    for message_type, envoy_message in envoy_messages.items():
        numbers = {
            field.name: field.metadata["betterproto"].number for field in dataclasses.fields(envoy_message)
        }
        for field in message_type.DESCRIPTOR.fields:
            assert numbers[field.name] == field.number, (message_type.DESCRIPTOR.full_name, field.name)


def test_fields_that_no_leg_uses_are_decoded() -> None:
    envoy = entry(EntryParts(flags=tuple(wire.ResponseFlags.DESCRIPTOR.fields_by_name)))
    common = wire.HTTPAccessLogEntry.FromString(bytes(envoy)).common_properties
    assert envoy.common_properties is not None
    assert all(getattr(common.response_flags, name) for name in wire.ResponseFlags.DESCRIPTOR.fields_by_name)
    assert common.start_time.ToMicroseconds() == T0
    assert common.time_to_first_upstream_rx_byte.ToTimedelta() == timedelta(milliseconds=10)
    assert common.duration.ToTimedelta() == timedelta(milliseconds=95)
    assert (common.route_name, common.stream_id) == ("chat/sampled", "s1")


@pytest.mark.parametrize(
    ("cluster", "variant"),
    [
        ("chat/v2", "v2"),
        ("chat/v2/shadow", "v2"),
        ("", ""),
        ("other/v2", "other/v2"),
        ("chat/a/b", "chat/a/b"),
    ],
)
def test_the_variant_is_derived_from_the_cluster_name(cluster: str, variant: str) -> None:
    assert parse(EntryParts(cluster=cluster)).variant == variant


@pytest.mark.parametrize(
    ("flags", "client_left", "failure"),
    [
        (("downstream_connection_termination",), True, None),
        (("downstream_remote_reset",), True, None),
        (("upstream_connection_failure",), False, Failure.UPSTREAM_CONNECTION_FAILURE),
        (
            ("upstream_retry_limit_exceeded", "upstream_connection_failure"),
            False,
            Failure.UPSTREAM_CONNECTION_FAILURE,
        ),
        (("upstream_request_timeout",), False, Failure.UPSTREAM_REQUEST_TIMEOUT),
        (("no_cluster_found",), False, Failure.NO_CLUSTER_FOUND),
    ],
)
def test_response_flags_set_client_left_and_failure(
    flags: tuple[str, ...], client_left: bool, failure: Failure | None
) -> None:
    leg = parse(EntryParts(flags=flags))
    assert (leg.client_left, leg.failure) == (client_left, failure)


def test_every_failure_is_a_response_flag() -> None:
    for failure in Failure:
        assert parse(EntryParts(flags=(failure.value,))).failure is failure


def test_an_aborted_stream_is_incomplete() -> None:
    body = chat_stream(["a", "b"], done=False)
    leg = parse(EntryParts(body=body, end=False, flags=("downstream_connection_termination",), status=0))
    assert leg.response.data == body
    assert (leg.complete, leg.response.total, leg.status) == (False, None, None)
    assert leg.last_chunk_us == T0 + 21_001


def test_a_truncated_body_has_its_size_and_end_from_the_end_field() -> None:
    leg = parse(end=f"{T0 + 95_000}:40:9999")
    assert leg.response.truncated
    assert (leg.response.total, leg.chunks, leg.last_chunk_us) == (9999, 40, T0 + 95_000)


def test_bodies_are_truncated_at_the_limit() -> None:
    leg = parse_entry(bytes(entry(EntryParts(cuts=(5, 9)))), max_body=7)
    assert isinstance(leg, Leg)
    assert leg.response.data == chat_json("hello world")[:7]
    assert leg.request.data == b'{"strea'
    assert leg.response.truncated
    assert leg.request.truncated


@given(st.lists(st.integers(0, 400), max_size=12))
def test_the_pieces_of_a_body_are_joined(cuts: list[int]) -> None:
    body = chat_stream(["Grüße", " aus", " 東京", "!"], tokens=4)
    whole = parse(EntryParts(body=body))
    split = parse(EntryParts(body=body, cuts=tuple(cut % len(body) for cut in cuts)))
    assert split.response == whole.response


def test_a_request_that_did_not_end() -> None:
    leg = parse(req=None, req_total=None, req_end=None)
    assert (leg.request.data, leg.request.total, leg.request_ended_us) == (b"", None, None)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"route": None}, RejectionReason.BAD_FIELD),
        ({"route": "x" * 300}, RejectionReason.BAD_FIELD),
        ({"role": "other"}, RejectionReason.BAD_FIELD),
        ({"req": "%%%"}, RejectionReason.BAD_BASE64),
        ({"b1": "abc"}, RejectionReason.BAD_BASE64),
        ({"b1": "äöü"}, RejectionReason.BAD_BASE64),
        ({"t0": "soon"}, RejectionReason.BAD_NUMBER),
        ({"t0": "9" * 19}, RejectionReason.BAD_NUMBER),
        ({"t0": "١٢٣"}, RejectionReason.BAD_NUMBER),
        ({"t1": ":5"}, RejectionReason.BAD_NUMBER),
        ({"end": "1:2"}, RejectionReason.BAD_FIELD),
        ({"end": "1:-2:3"}, RejectionReason.BAD_NUMBER),
    ],
)
def test_invalid_values_are_rejected_with_a_reason(
    overrides: dict[str, str | None], reason: RejectionReason
) -> None:
    assert rejection_reason(**overrides) is reason


def test_invalid_entries_are_rejected() -> None:
    missing = parse_entry(b"")
    assert isinstance(missing, Rejection)
    assert missing.reason is RejectionReason.NOT_CAPTURED
    broken = parse_entry(b"\xff\xff\xff")
    assert isinstance(broken, Rejection)
    assert broken.reason is RejectionReason.MALFORMED
    nameless = parse_entry(bytes(entry(EntryParts(request_id=""))))
    assert isinstance(nameless, Rejection)
    assert nameless.reason is RejectionReason.BAD_FIELD


@given(st.binary(max_size=300), st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_the_parsers_never_raise(noise: bytes, at: int, patch: bytes) -> None:
    good = bytes(entry(EntryParts()))
    patched = good[: at % len(good)] + patch + good[at % len(good) + len(patch) :]
    for data in (noise, patched):
        assert isinstance(parse_entry(data), Leg | Rejection)
        assert isinstance(parse_message(data), LogMessage | Rejection)


def test_invalid_utf8_in_the_path_is_replaced() -> None:
    data = bytes(entry(EntryParts()))
    leg = parse_entry(data.replace(b"/v1/chat/completions", b"/v1/ch\xfft/completions"))
    assert isinstance(leg, Leg)
    assert leg.path == "/v1/ch\ufffdt/completions"


def test_a_message_has_a_node_and_separate_entries() -> None:
    one, two = entry(EntryParts()), entry(EntryParts(role="shadow"))
    read = parse_message(message(one, two))
    assert read == LogMessage(node="envoy-1", entries=(bytes(one), bytes(two)))
    assert parse_message(message(one, node=None)) == LogMessage(node=None, entries=(bytes(one),))


def test_an_invalid_node_does_not_affect_the_entries() -> None:
    data = message(entry(EntryParts())).replace(b"envoy-1", b"envoy\xff1")
    read = parse_message(data)
    assert isinstance(read, LogMessage)
    assert read.node is None
    assert len(read.entries) == 1


def test_a_document_is_parsed_as_a_leg() -> None:
    leg = parse_document(document())
    assert isinstance(leg, Leg)
    assert (leg.route, leg.role, leg.request_id, leg.variant) == ("chat", Role.PRIMARY, "r1", "v1")
    assert leg.response.data == chat_json("hello world")
    assert (leg.started_us, leg.first_chunk_us, leg.last_chunk_us) == (T0, T0 + 20_000, T0 + 80_000)
    assert leg.succeeded


def test_a_document_with_a_binary_body() -> None:
    packed = gzip.compress(b"{}")
    value = document()
    value["response"] = {
        "status": 200,
        "body_base64": "H4sI",
        "content_encoding": "gzip",
        "total": len(packed),
    }
    leg = parse_document(value)
    assert isinstance(leg, Leg)
    assert leg.response.data == packed[:3]
    assert leg.response.truncated


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"role": "other"}, "role:"),
        ({"started_at": "x"}, "started_at:"),
        ({"started_at": 1e300}, "started_at:"),
        ({"speed": 1}, "speed:"),
        ({"response": {"status": 99}}, "response.status:"),
        ({"response": {"status": 200, "body": 5}}, "response.body:"),
    ],
)
def test_the_rejection_of_a_document_names_the_field(change: dict[str, Any], where: str) -> None:
    rejection = parse_document({**document(text="secret words"), **change})
    assert isinstance(rejection, Rejection)
    assert rejection.reason is RejectionReason.BAD_FIELD
    assert rejection.detail.startswith(where)
    assert "secret" not in rejection.detail


def test_invalid_documents_are_rejected() -> None:
    values: tuple[Any, ...] = (None, 3, "leg", [], {})
    for value in values:
        assert isinstance(parse_document(value), Rejection)
    bad = parse_document({**document(), "request": {"body_base64": "%%%ö"}})
    assert isinstance(bad, Rejection)
    assert bad.reason is RejectionReason.BAD_BASE64


def test_a_lone_surrogate_is_rejected() -> None:
    rejection = parse_document({**document(), "path": "/\ud800"})
    assert isinstance(rejection, Rejection)
    assert rejection.detail.startswith("path:")

"""Alarm payloads: accepted or rejected as a whole, and new only once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.alarms import (
    Alert,
    FiringAlerts,
    PayloadError,
    SignatureError,
    alertmanager,
    signature,
    verify,
    webhook,
)


def alert_of(
    status: str = "firing", fingerprint: str = "f1", since: str = "2026-01-01T00:00:00Z"
) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": "CanaryRegressionDetected", "route": "chat"},
        "annotations": {"summary": "v2 fails"},
        "startsAt": since,
        "fingerprint": fingerprint,
    }


def group(*alerts: dict[str, Any]) -> dict[str, Any]:
    return {"version": "4", "groupKey": "g", "status": "firing", "alerts": list(alerts)}


def test_a_group_is_parsed_into_its_alerts() -> None:
    one, two = alertmanager(group(alert_of(), alert_of("resolved", "f2")))
    assert (one.firing, two.firing) == (True, False)
    assert one.message == "v2 fails"
    assert one.matches({"route": "chat"})
    assert not one.matches({"route": "chat", "severity": "page"})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "alerts: must be a list"),
        ({}, "alerts: must be a list"),
        ({"alerts": ["x"]}, r"alerts\[0\]: must be an object"),
        ({"alerts": [{}]}, r"alerts\[0\].status: must be firing or resolved, not None; alerts\[0\].labels"),
        (
            {"alerts": [{"status": "firing", "labels": {"a": 1}}]},
            r"alerts\[0\].labels: must be an object with text values",
        ),
    ],
)
def test_an_invalid_group_is_rejected_with_every_problem(document: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        alertmanager(document)


def test_problems_beyond_20_are_counted() -> None:
    with pytest.raises(PayloadError, match=r"alerts\[19\]: .*; and 3 more problems$"):
        alertmanager({"alerts": ["x"] * 23})


def test_one_invalid_alert_rejects_the_group() -> None:
    with pytest.raises(PayloadError, match=r"alerts\[1\].status"):
        alertmanager(group(alert_of(), {**alert_of(), "status": "on"}))


def test_a_webhook_alert_is_parsed() -> None:
    alert = webhook({"status": "firing", "labels": {"route": "chat"}, "reason": "pager"})
    assert (alert.source, alert.firing, alert.message, alert.identity) == (
        "webhook",
        True,
        "pager",
        "route=chat",
    )


def test_an_invalid_webhook_is_rejected_with_every_problem() -> None:
    with pytest.raises(
        PayloadError,
        match=r"state: unknown.*; status: .*not None; labels: 0 labels; .*; reason: must be text",
    ):
        webhook({"state": "firing", "labels": {}, "reason": 3})


def test_a_signature_requires_the_secret_and_a_recent_timestamp() -> None:
    body, good = b'{"a": 1}', signature(b"s", "1000", b'{"a": 1}')
    verify(b"s", timestamp="1000", given=good, body=body, now=1299.0)
    for timestamp, given_, content, now, message in (
        ("1000", good, b"{}", 1000.0, "does not match"),
        ("1001", good, body, 1000.0, "does not match"),
        ("1000", "", body, 1000.0, "does not match"),
        ("1000", good, body, 1301.0, "more than 300 s from"),
        ("soon", good, body, 1000.0, "seconds since the Unix epoch"),
    ):
        with pytest.raises(SignatureError, match=message):
            verify(b"s", timestamp=timestamp, given=given_, body=content, now=now)
    with pytest.raises(SignatureError):
        verify(b"other", timestamp="1000", given=good, body=body, now=1000.0)


def alert(identity: str, *, firing: bool) -> Alert:
    return Alert(source="x", firing=firing, labels=(), message="", identity=identity)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_an_alert_is_new_only_when_it_starts_to_fire(alert_of: list[tuple[str, bool]]) -> None:
    seen, firing = FiringAlerts(), dict.fromkeys("abc", False)
    for identity, on in alert_of:
        assert seen.is_new(alert(identity, firing=on)) == (on and not firing[identity])
        firing[identity] = on


def test_the_number_of_firing_alerts_is_bounded() -> None:
    seen = FiringAlerts()
    for number in range(20_000):
        assert seen.is_new(alert(str(number), firing=True))
    assert len(seen._firing) == 10_000

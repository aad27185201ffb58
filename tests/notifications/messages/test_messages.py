"""The messages that targets receive, in each format."""

from __future__ import annotations

import ast
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.notices import EXAMPLE, HOOK, PUBLIC
from xds_server.alarms import SignatureError, verify
from xds_server.notifications.messages import (
    KINDS,
    TITLES,
    Event,
    Format,
    Secret,
    Target,
    Template,
    redact,
    render,
    signed_headers,
)

ROOT = Path(__file__).resolve().parents[3]


def target(kind: Format = Format.WEBHOOK, **more: Any) -> Target:
    return Target(name="ops", format=kind, url=Secret(HOOK), **more)


def event(**more: Any) -> Event:
    fields = {"seq": 1, "place": 0, "at": 1_000.0, "route": "chat", "kind": "aborted", "actor": "ada"}
    return Event(**{**fields, "message": "back to the stable backend", **more})


def body(found: Target, sent: Event, public_url: str | None = PUBLIC) -> Any:
    return json.loads(render(found, sent, public_url).body)


def test_the_kinds_are_those_that_the_rollout_and_the_store_record() -> None:
    recorded = set()
    for file in (ROOT / "xds_server").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Record":
                (what,) = (keyword.value for keyword in node.keywords if keyword.arg == "what")
                assert isinstance(what, ast.Constant), f"{file}:{node.lineno}"
                recorded.add(what.value)
    assert recorded == set(KINDS)
    assert list(TITLES) == list(KINDS), "every kind has a title"


def test_a_webhook_receives_all_fields_of_the_event() -> None:
    assert body(target(), EXAMPLE) == {
        "id": "19c13634aba-42-0",
        "kind": "failed",
        "route": "chat",
        "at": "2026-01-31T09:30:00.250Z",
        "actor": "analysis",
        "message": "success-rate: candidate 91.20%, stable 99.40%; worse",
        "phase": "RollingBack",
        "generation": 3,
        "revision": 7,
        "weights": {"v1": 100.0},
        "labels": {"team": "platform"},
        "text": "chat: verdict Fail: success-rate: candidate 91.20%, stable 99.40%; worse",
        "url": "https://shiftplane.example.com/routes/chat",
    }


def test_slack_receives_blocks_and_a_button_with_a_link_to_the_route() -> None:
    found = body(target(Format.SLACK), EXAMPLE, f"{PUBLIC}/")
    kinds = [block["type"] for block in found["blocks"]]
    assert kinds == ["header", "section", "context", "actions"]
    header, section, context, actions = found["blocks"]
    assert header["text"] == {"type": "plain_text", "text": "chat: verdict Fail", "emoji": False}
    assert "candidate 91.20%, stable" in section["text"]["text"]
    assert context["elements"][0]["text"] == "2026-01-31T09:30:00.250Z · by analysis · RollingBack · v1 100 %"
    (button,) = actions["elements"]
    assert (button["type"], button["url"]) == ("button", f"{PUBLIC}/routes/chat")
    assert found["text"].endswith(f"<{PUBLIC}/routes/chat|Open the route>")


def test_without_a_public_url_there_is_no_button() -> None:
    found = body(target(Format.SLACK), EXAMPLE, None)
    assert [block["type"] for block in found["blocks"]] == ["header", "section", "context"]
    assert "<" not in found["text"]
    assert body(target(), EXAMPLE, None)["url"] is None


def test_a_reason_cannot_notify_a_slack_channel() -> None:
    sent = event(message="<!channel> & <https://evil.example|click>", actor="<@U1>")
    for template in (None, Template("*{{ route }}* {{ message }} {{ actor }}")):
        found = json.dumps(body(target(Format.SLACK, template=template), sent, None))
        assert "<" not in found
        assert "&lt;!channel&gt; &amp; &lt;https" in found


def test_long_text_is_cut_to_the_limits_of_slack() -> None:
    found = body(target(Format.SLACK), event(message="x" * 9_000, route="r" * 400), None)
    header, section, _ = found["blocks"]
    assert len(header["text"]["text"]) == 150
    assert len(section["text"]["text"]) == 3_000
    assert section["text"]["text"].endswith("…")


def test_a_cloud_event_has_the_required_attributes() -> None:
    message = render(target(Format.CLOUDEVENTS), EXAMPLE, PUBLIC)
    found = json.loads(message.body)
    assert message.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    # 1.0.2: id, source, specversion and type are required; names are lower-case letters and digits.
    assert found["specversion"] == "1.0"
    assert all(isinstance(found[name], str) and found[name] for name in ("id", "source", "type"))
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in found)
    assert found["type"] == "dev.shiftplane.route.failed"
    assert (found["source"], found["subject"]) == (PUBLIC, "chat")
    assert datetime.fromisoformat(found["time"]).timestamp() == EXAMPLE.at
    assert found["datacontenttype"] == "application/json"
    assert found["data"] == body(target(), EXAMPLE)


def test_ids_are_stable_and_unique() -> None:
    ids = {event(seq=seq, place=place, at=at).id for seq in (1, 2) for place in (0, 1) for at in (1.0, 2.0)}
    assert len(ids) == 8
    assert event().id == event(message="another").id
    assert render(target(), event(), None).headers["X-Shiftplane-Event"] == event().id


def test_messages_are_signed_like_alarms() -> None:
    found = target(secret=Secret("between us"))
    message = render(found, EXAMPLE, PUBLIC)
    headers = signed_headers(found, message, 1_000.7)
    signature = {"timestamp": headers["X-Shiftplane-Timestamp"], "given": headers["X-Shiftplane-Signature"]}
    verify(b"between us", **signature, body=message.body, now=1_010.0)
    with pytest.raises(SignatureError):
        verify(b"between us", **signature, body=message.body + b" ", now=1_010.0)
    assert "X-Shiftplane-Signature" not in signed_headers(target(), message, 1_000.7)


def test_a_template_sets_the_text_of_every_format() -> None:
    custom = Template(
        "{{ title | upper }} of {{ route }}{% if labels.team == 'platform' %} for us{% endif %}: "
        "{{ weights.v1 }} {{ weights.missing }}{{ labels.none | default('-') }}"
    )
    assert body(target(template=custom), EXAMPLE)["text"] == "VERDICT FAIL of chat for us: 100 -"
    assert body(target(Format.CLOUDEVENTS, template=custom), EXAMPLE)["data"]["text"].startswith(
        "VERDICT FAIL"
    )
    assert body(target(Format.SLACK, template=custom), EXAMPLE)["blocks"][1]["text"]["text"].startswith(
        "VERDICT FAIL"
    )


def test_a_failing_template_is_replaced_by_the_default_text() -> None:
    message = render(target(template=Template("{% if generation > phase %}x{% endif %}")), EXAMPLE, None)
    assert "not supported between" in message.template_error
    assert json.loads(message.body)["text"].startswith("chat: verdict Fail: success-rate")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ rute }}", "line 1 of the template: unknown field 'rute'"),
        ("a\n{{ message | replace('a', 'b') }}", "line 2 of the template: unknown filter 'replace'"),
        ("{% for x in labels %}{% endfor %}", "{% for %} is not allowed"),
        ("{{ message * 9 }}", "the operator * is not allowed"),
        ("{{ message() }}", "a call with ( ) is not allowed"),
        ("{{ message.upper }}", "only weights and labels have fields"),
        ("{{ labels.team.name }}", "only weights and labels have fields"),
        ("{% include 'x' %}", "{% include %} is not allowed"),
        (
            "{{ message",
            "syntax error in line 1 of the template: unexpected end of the template, expected '}}'",
        ),
        ("a\n{{ route message }}", "syntax error in line 2 of the template: expected '}}', got 'message'"),
        (
            "{% if route %}",
            "expected 'elif' or 'else' or 'endif' to continue or close 'if'",
        ),
        ("{% endif %}", "syntax error in line 1 of the template: unknown tag 'endif'"),
        (
            "{{ # }}",
            "syntax error in line 1 of the template: unexpected char '#' at character 4 of the template",
        ),
        ("{{ route is odder }}", "line 1 of the template: unknown test 'odder'"),
        ("x" * 8_001, "has 8001 characters"),
    ],
)
def test_templates_with_disallowed_elements_are_rejected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Template(text)


def test_targets_select_by_event_route_and_label() -> None:
    chosen = target(events=("rolled_*", "killed"), routes=("chat-*",), labels={"team": "platform"})
    ours = {"team": "platform", "tier": "1"}
    assert chosen.matches(event(kind="rolled_back", route="chat-eu", labels=ours))
    assert not chosen.matches(event(kind="promoted", route="chat-eu", labels=ours))
    assert not chosen.matches(event(kind="killed", route="search", labels=ours))
    assert not chosen.matches(event(kind="killed", route="chat-eu", labels={"team": "other"}))
    assert not chosen.matches(event(kind="killed", route="chat-eu"))


def test_secrets_are_redacted_from_responses() -> None:
    found = target(secret=Secret("between us"))
    response = f"no hook at {HOOK}, nor at services/T000/B000/wH1sp3r (wH1sp3r), signed with between us"
    text = redact(found, response)
    assert "wH1sp3r" not in text
    assert "between us" not in text
    assert text.startswith("no hook at [redacted]")


@given(st.text(), st.text(), st.text(), st.sampled_from(list(Format)), st.dictionaries(st.text(), st.text()))
def test_every_event_can_be_rendered(
    message: str, actor: str, route: str, kind: Format, labels: dict[str, str]
) -> None:
    sent = event(message=message, actor=actor, route=route, labels=labels)
    custom = Template("{{ message | title | truncate(9) }}{{ labels.team }}")
    for template in (None, custom):
        assert json.loads(render(target(kind, template=template), sent, PUBLIC).body)

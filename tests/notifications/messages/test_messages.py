"""What targets are told, in their own formats."""

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
    Event,
    Format,
    Secret,
    Target,
    Template,
    redacted,
    render,
    signed,
)

ROOT = Path(__file__).resolve().parents[3]


def target(kind: Format = Format.WEBHOOK, **more: Any) -> Target:
    return Target(name="ops", format=kind, url=Secret(HOOK), **more)


def event(**more: Any) -> Event:
    said = {"seq": 1, "place": 0, "at": 1_000.0, "route": "chat", "kind": "aborted", "actor": "ada"}
    return Event(**{**said, "message": "back to the stable backend", **more})


def body(found: Target, told: Event, public_url: str | None = PUBLIC) -> Any:
    return json.loads(render(found, told, public_url).body)


def test_the_kinds_are_those_that_the_machine_and_the_store_record() -> None:
    recorded = set()
    for file in (ROOT / "xds_server").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Record":
                (what,) = (keyword.value for keyword in node.keywords if keyword.arg == "what")
                assert isinstance(what, ast.Constant), f"{file}:{node.lineno}"
                recorded.add(what.value)
    assert recorded == set(KINDS)


def test_a_webhook_gets_everything_there_is_to_know() -> None:
    assert body(target(), EXAMPLE) == {
        "id": "19c13634aba-42-0",
        "kind": "failed",
        "route": "chat",
        "at": "2026-01-31T09:30:00.250Z",
        "actor": "analysis",
        "message": "success-rate: 91.2 % against 99.4 %, odds 8.1",
        "phase": "RollingBack",
        "generation": 3,
        "revision": 7,
        "weights": {"v1": 100.0},
        "labels": {"team": "platform"},
        "text": "chat: failed: success-rate: 91.2 % against 99.4 %, odds 8.1",
        "url": "https://shiftplane.example.com/routes/chat",
    }


def test_slack_gets_blocks_and_a_button_that_leads_to_the_route() -> None:
    found = body(target(Format.SLACK), EXAMPLE, f"{PUBLIC}/")
    kinds = [block["type"] for block in found["blocks"]]
    assert kinds == ["header", "section", "context", "actions"]
    header, section, context, actions = found["blocks"]
    assert header["text"] == {"type": "plain_text", "text": "chat: failed", "emoji": False}
    assert "91.2 % against" in section["text"]["text"]
    assert context["elements"][0]["text"] == "2026-01-31T09:30:00.250Z · by analysis · RollingBack · v1 100 %"
    (button,) = actions["elements"]
    assert (button["type"], button["url"]) == ("button", f"{PUBLIC}/routes/chat")
    assert found["text"].endswith(f"<{PUBLIC}/routes/chat|Open the route>")


def test_without_a_public_address_there_is_no_button() -> None:
    found = body(target(Format.SLACK), EXAMPLE, None)
    assert [block["type"] for block in found["blocks"]] == ["header", "section", "context"]
    assert "<" not in found["text"]
    assert body(target(), EXAMPLE, None)["url"] is None


def test_a_reason_cannot_call_a_whole_channel() -> None:
    told = event(message="<!channel> & <https://evil.example|click>", actor="<@U1>")
    for template in (None, Template("*{{ route }}* {{ message }} {{ actor }}")):
        found = json.dumps(body(target(Format.SLACK, template=template), told, None))
        assert "<" not in found
        assert "&lt;!channel&gt; &amp; &lt;https" in found


def test_long_words_stay_within_what_slack_takes() -> None:
    found = body(target(Format.SLACK), event(message="x" * 9_000, route="r" * 400), None)
    header, section, _ = found["blocks"]
    assert len(header["text"]["text"]) == 150
    assert len(section["text"]["text"]) == 3_000
    assert section["text"]["text"].endswith("…")


def test_a_cloud_event_has_what_the_specification_requires() -> None:
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


def test_ids_are_stable_and_of_one_event_only() -> None:
    ids = {event(seq=seq, place=place, at=at).id for seq in (1, 2) for place in (0, 1) for at in (1.0, 2.0)}
    assert len(ids) == 8
    assert event().id == event(message="told again").id
    assert render(target(), event(), None).headers["X-Shiftplane-Event"] == event().id


def test_a_secret_signs_as_alarms_are_signed() -> None:
    found = target(secret=Secret("between us"))
    message = render(found, EXAMPLE, PUBLIC)
    headers = signed(found, message, 1_000.7)
    said = {"timestamp": headers["X-Shiftplane-Timestamp"], "given": headers["X-Shiftplane-Signature"]}
    verify(b"between us", **said, body=message.body, now=1_010.0)
    with pytest.raises(SignatureError):
        verify(b"between us", **said, body=message.body + b" ", now=1_010.0)
    assert "X-Shiftplane-Signature" not in signed(target(), message, 1_000.7)


def test_templates_fill_the_text_of_every_format() -> None:
    words = Template(
        "{{ title | upper }} of {{ route }}{% if labels.team == 'platform' %} for us{% endif %}: "
        "{{ weights.v1 }} {{ weights.nobody }}{{ labels.none | default('-') }}"
    )
    assert body(target(template=words), EXAMPLE)["text"] == "FAILED of chat for us: 100 -"
    assert body(target(Format.CLOUDEVENTS, template=words), EXAMPLE)["data"]["text"].startswith("FAILED")
    assert body(target(Format.SLACK, template=words), EXAMPLE)["blocks"][1]["text"]["text"].startswith(
        "FAILED"
    )


def test_a_template_that_fails_costs_its_words_and_not_the_message() -> None:
    message = render(target(template=Template("{% if generation > phase %}x{% endif %}")), EXAMPLE, None)
    assert "not supported between" in message.fault
    assert json.loads(message.body)["text"].startswith("chat: failed: success-rate")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ rute }}", "line 1: there is no field 'rute'"),
        ("a\n{{ message | replace('a', 'b') }}", "line 2: there is no filter 'replace'"),
        ("{% for x in labels %}{% endfor %}", "For is more than a template may"),
        ("{{ message * 9 }}", "Mul is more than a template may"),
        ("{{ message() }}", "Call is more than a template may"),
        ("{{ message.upper }}", "only weights and labels have fields"),
        ("{{ labels.team.name }}", "only weights and labels have fields"),
        ("{% include 'x' %}", "Include is more than a template may"),
        ("{{ message", "line 1: unexpected end of template"),
        ("x" * 8_001, "has 8001 characters"),
    ],
)
def test_templates_may_do_little_and_say_what_they_may_not(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Template(text)


def test_targets_choose_by_event_route_and_label() -> None:
    chosen = target(events=("rolled_*", "killed"), routes=("chat-*",), labels={"team": "platform"})
    ours = {"team": "platform", "tier": "1"}
    assert chosen.wants(event(kind="rolled_back", route="chat-eu", labels=ours))
    assert not chosen.wants(event(kind="promoted", route="chat-eu", labels=ours))
    assert not chosen.wants(event(kind="killed", route="search", labels=ours))
    assert not chosen.wants(event(kind="killed", route="chat-eu", labels={"team": "other"}))
    assert not chosen.wants(event(kind="killed", route="chat-eu"))


def test_what_comes_back_is_told_without_the_secrets_in_it() -> None:
    found = target(secret=Secret("between us"))
    said = f"no hook at {HOOK}, nor at services/T000/B000/wH1sp3r (wH1sp3r), signed with between us"
    kept = redacted(found, said)
    assert "wH1sp3r" not in kept
    assert "between us" not in kept
    assert kept.startswith("no hook at [redacted]")


@given(st.text(), st.text(), st.text(), st.sampled_from(list(Format)), st.dictionaries(st.text(), st.text()))
def test_every_event_can_be_told(
    message: str, actor: str, route: str, kind: Format, labels: dict[str, str]
) -> None:
    told = event(message=message, actor=actor, route=route, labels=labels)
    words = Template("{{ message | title | truncate(9) }}{{ labels.team }}")
    for template in (None, words):
        assert json.loads(render(target(kind, template=template), told, PUBLIC).body)

"""The settings file of `serve --notify`: its meaning, and the problems it can have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.notices import EXAMPLE, HOOK, NOTIFY, loaded, messages
from xds_server.notifications.messages import Format, Secret, render

ROOT = Path(__file__).resolve().parents[3]

GOOD = """
publicUrl: https://shiftplane.example.com/
targets:
  - {name: ops, type: slack, urlFile: hook, events: [rolled_back, "candidate_*"]}
  - name: audit
    type: webhook
    url: http://127.0.0.1:9000/in
    secretFile: secret
    routes: {names: ["chat*"], labels: {team: platform}}
    template: "{{ route }}: {{ message | truncate(80) }}"
    maxAge: 10m
"""


def test_a_valid_file_is_loaded() -> None:
    found, problems = loaded(GOOD)
    assert problems == ()
    assert found is not None
    ops, audit = found.targets
    assert found.public_url == "https://shiftplane.example.com/"
    assert (ops.name, ops.format, ops.url.value) == ("ops", Format.SLACK, HOOK)
    assert (ops.events, ops.routes, ops.secret, ops.max_age) == (
        ("rolled_back", "candidate_*"),
        ("*",),
        None,
        3600,
    )
    assert audit.secret is not None
    assert audit.secret.value == "only between us"
    assert (audit.routes, audit.labels, audit.max_age) == (("chat*",), {"team": "platform"}, 600)


def test_secrets_are_redacted_in_repr() -> None:
    found, _ = loaded(GOOD)
    assert "wH1sp3r" not in repr(found)
    assert "between us" not in repr(found)
    assert f"{Secret('x')} {Secret('x')!r}" == "[redacted] [redacted]"


def test_all_problems_are_reported_with_their_positions() -> None:
    assert messages() == (NOTIFY / "bad.txt").read_text(encoding="utf-8"), "run make golden to update it"


def test_problems_do_not_quote_secrets() -> None:
    assert not re.search("s3cret|wH1sp3r", messages())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file contains no mapping"),
        ("- 1", "the file contains no mapping"),
        ("a: [", "invalid YAML"),
        ("{}", "targets: required field is missing"),
        ("targets: []", "targets: must not be empty"),
        ("targets: {a: 1}", "targets: must be a list"),
        ("---\na: 1\n---\nb: 2\n", "several documents"),
        ("targets: [1]", "targets[0]: must be a mapping, found 1"),
        ("targets: [{name: x, type: webhook, url: 7}]", "targets[0].url: must be text"),
        ("targets: [{name: x, type: webhook, url: 'http://a:99999/'}]", "targets[0].url: is not a URL"),
        ("targets: [{name: x, type: webhook, urlFile: {}}]", "targets[0].urlFile: must be text"),
    ],
)
def test_an_invalid_file_gives_a_problem(text: str, message: str) -> None:
    found, problems = loaded(text)
    assert found is None
    assert message in "\n".join(str(problem) for problem in problems)


def test_the_settings_in_the_docs_are_valid() -> None:
    page = (ROOT / "docs/notifications.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    found, problems = loaded(text.replace("slack-hook", "hook").replace("audit-secret", "secret"))
    assert problems == ()
    assert found is not None
    on_call, audit = found.targets
    assert on_call.template is not None
    assert json.loads(render(on_call, EXAMPLE, found.public_url).body)["blocks"][1]["text"]["text"] == (
        "*chat* verdict Fail: success-rate: candidate 91.20%, stable 99.40%; worse"
    )
    assert audit.max_age == 86_400

"""Notification settings, an example event, and its message in each format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from xds_server.notifications.messages import (
    Event,
    Format,
    Notifications,
    Secret,
    Target,
    load_notifications,
    render,
)

if TYPE_CHECKING:
    from xds_server.spec import Problem

__all__ = ["EXAMPLE", "HOOK", "NOTIFY", "PUBLIC", "example", "loaded", "messages"]

NOTIFY = Path(__file__).resolve().parents[1] / "golden" / "notify"
HOOK = "https://hooks.slack.com/services/T000/B000/wH1sp3r"
PUBLIC = "https://shiftplane.example.com"
EXAMPLE = Event(
    seq=42,
    place=0,
    at=1_769_851_800.25,
    route="chat",
    labels={"team": "platform"},
    kind="failed",
    actor="analysis",
    message="success-rate: candidate 91.20%, stable 99.40%; worse",
    phase="RollingBack",
    generation=3,
    revision=7,
    weights={"v1": 100.0},
)


def loaded(text: str, file: str = "notify.yaml") -> tuple[Notifications | None, tuple[Problem, ...]]:
    """Load settings; the files they name are in memory."""
    files = {"hook": f"{HOOK}\n", "secret": "only between us\n", "wrong": "s3cret words", "empty": "\n"}

    def read(name: str) -> str:
        if name not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[name]

    return load_notifications(text, file=file, read=read)


def messages() -> str:
    """Return the problems of the invalid golden settings, one per line."""
    _, problems = loaded((NOTIFY / "bad.yaml").read_text(encoding="utf-8"), "bad.yaml")
    return "".join(f"{problem}\n" for problem in problems)


def example(kind: Format) -> str:
    """Return the body of the example event's message as the docs show it."""
    target = Target(name="ops", format=kind, url=Secret(HOOK))
    return json.dumps(json.loads(render(target, EXAMPLE, PUBLIC).body), indent=2, ensure_ascii=False)

"""Render an event as a message: blocks for Slack, plain JSON, or a CloudEvent.

https://docs.slack.dev/reference/block-kit, https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from xds_server.alarms import signature
from xds_server.notifications.messages.model import TITLES, Format, Message
from xds_server.notifications.messages.template import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.notifications.messages.model import Event, Target

__all__ = ["render", "signed_headers"]

# Slack's limits, in characters.
_MAX_HEADER: Final = 150
_MAX_TEXT: Final = 3_000


def render(target: Target, event: Event, public_url: str | None) -> Message:
    """Return the message for a target.

    The text is the default one without a template, and if the template fails or renders to nothing.
    """
    page = None if public_url is None else f"{public_url.rstrip('/')}/routes/{event.route}"
    slack = target.format is Format.SLACK
    text, template_error = _text(target, event, page, escaped=slack)
    match target.format:
        case Format.SLACK:
            return _message(_slack(event, text, page), "application/json", event, template_error)
        case Format.WEBHOOK:
            return _message(_document(event, text, page), "application/json", event, template_error)
        case Format.CLOUDEVENTS:
            document = _cloud_event(event, text, page, public_url)
            return _message(document, "application/cloudevents+json", event, template_error)


def signed_headers(target: Target, message: Message, now: float) -> dict[str, str]:
    """Return the headers of a message, with a signature if the target has a secret.

    The scheme is that of signed alarms: see `xds_server.alarms.payload`.
    """
    headers = dict(message.headers)
    if target.secret is not None:
        timestamp = str(int(now))
        headers["X-Shiftplane-Timestamp"] = timestamp
        headers["X-Shiftplane-Signature"] = signature(target.secret.value.encode(), timestamp, message.body)
    return headers


def _message(document: Any, content_type: str, event: Event, template_error: str) -> Message:
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    headers = {"Content-Type": f"{content_type}; charset=utf-8", "X-Shiftplane-Event": event.id}
    return Message(body=body, headers=headers, template_error=template_error)


def _text(target: Target, event: Event, page: str | None, *, escaped: bool) -> tuple[str, str]:
    """Return the text of a message, and why the template failed; empty if it did not."""
    default = f"{event.route}: {_title(event)}: {event.message}"
    if target.template is None:
        return _escape(default) if escaped else default, ""
    fields = _fields(event, page)
    try:
        found = target.template.fill(_escape_all(fields) if escaped else fields)
    except TemplateError as error:
        return _escape(default) if escaped else default, str(error)
    return found or default, ""


def _fields(event: Event, page: str | None) -> dict[str, Any]:
    return {
        "route": event.route,
        "kind": event.kind,
        "title": _title(event),
        "message": event.message,
        "actor": event.actor,
        "phase": event.phase or "",
        "generation": "" if event.generation is None else event.generation,
        "revision": "" if event.revision is None else event.revision,
        "weights": {name: f"{share:g}" for name, share in event.weights.items()},
        "labels": dict(event.labels),
        "at": _time(event.at),
        "id": event.id,
        "url": page or "",
    }


def _document(event: Event, text: str, page: str | None) -> dict[str, Any]:
    return {
        "id": event.id,
        "kind": event.kind,
        "route": event.route,
        "at": _time(event.at),
        "actor": event.actor,
        "message": event.message,
        "phase": event.phase,
        "generation": event.generation,
        "revision": event.revision,
        "weights": dict(event.weights),
        "labels": dict(event.labels),
        "text": text,
        "url": page,
    }


def _cloud_event(event: Event, text: str, page: str | None, public_url: str | None) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": public_url or "/shiftplane",
        "type": f"dev.shiftplane.route.{event.kind}",
        "subject": event.route,
        "time": _time(event.at),
        "datacontenttype": "application/json",
        "data": _document(event, text, page),
    }


def _slack(event: Event, text: str, page: str | None) -> dict[str, Any]:
    context = [_time(event.at), f"by {event.actor}"]
    context += [event.phase] if event.phase else []
    context += [f"{backend} {share:g} %" for backend, share in event.weights.items()]
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(f"{event.route}: {_title(event)}"[:_MAX_HEADER])},
        {"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, _MAX_TEXT)}},
        {
            "type": "context",
            "elements": [{"type": "mrkdwn", "text": _escape(" · ".join(context))[:_MAX_TEXT]}],
        },
    ]
    if page is not None:
        button = {"type": "button", "text": _plain("Open the route"), "url": page, "action_id": "open_route"}
        blocks.append({"type": "actions", "elements": [button]})
    link = "" if page is None else f" <{page}|Open the route>"
    # Clients that do not render blocks, such as push notifications or Mattermost, show `text`.
    return {"text": _cut(text, _MAX_TEXT) + link, "blocks": blocks}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _title(event: Event) -> str:
    return TITLES.get(event.kind) or event.kind.replace("_", " ")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escape(text: str) -> str:
    """Escape Slack's control characters, so that a text such as a reason cannot notify a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _escape_all(fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        match value:
            case str() if name != "url":
                found[name] = _escape(value)
            case dict():
                found[name] = _escape_all(value)
            case _:
                found[name] = value
    return found

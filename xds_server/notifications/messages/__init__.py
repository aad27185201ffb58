"""What others are told of rollouts: who is told of which event, and in which words (pure)."""

from xds_server.notifications.messages.model import (
    KINDS,
    TEST,
    Event,
    Format,
    Message,
    Notifications,
    Secret,
    Target,
    redacted,
)
from xds_server.notifications.messages.render import render, signed
from xds_server.notifications.messages.settings import load_notifications
from xds_server.notifications.messages.template import FIELDS, Template, TemplateError

__all__ = [
    "FIELDS",
    "KINDS",
    "TEST",
    "Event",
    "Format",
    "Message",
    "Notifications",
    "Secret",
    "Target",
    "Template",
    "TemplateError",
    "load_notifications",
    "redacted",
    "render",
    "signed",
]

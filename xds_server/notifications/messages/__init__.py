"""Notification settings, and the messages that targets receive for route events (pure)."""

from xds_server.notifications.messages.model import (
    KINDS,
    TEST_KIND,
    TITLES,
    Event,
    Format,
    Message,
    Notifications,
    Secret,
    Target,
    redact,
)
from xds_server.notifications.messages.render import render, signed_headers
from xds_server.notifications.messages.settings import load_notifications
from xds_server.notifications.messages.template import FIELDS, Template, TemplateError

__all__ = [
    "FIELDS",
    "KINDS",
    "TEST_KIND",
    "TITLES",
    "Event",
    "Format",
    "Message",
    "Notifications",
    "Secret",
    "Target",
    "Template",
    "TemplateError",
    "load_notifications",
    "redact",
    "render",
    "signed_headers",
]

"""What others are told of rollouts: who is told of which event, and in which words (pure)."""

from xds_server.notify.model import (
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
from xds_server.notify.render import render, signed
from xds_server.notify.settings import load_notifications
from xds_server.notify.template import FIELDS, Template, TemplateError

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

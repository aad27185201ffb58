"""Alarms from outside: what Alertmanager and others post → alerts, and which of them are news (pure)."""

from xds_server.alarms.memory import Seen
from xds_server.alarms.payload import (
    Alert,
    PayloadError,
    SignatureError,
    alertmanager,
    signature,
    verify,
    webhook,
)

__all__ = [
    "Alert",
    "PayloadError",
    "Seen",
    "SignatureError",
    "alertmanager",
    "signature",
    "verify",
    "webhook",
]

"""External alarms: payloads of Alertmanager and webhooks → alerts, and which of them are new (pure)."""

from xds_server.alarms.firing import FiringAlerts
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
    "FiringAlerts",
    "PayloadError",
    "SignatureError",
    "alertmanager",
    "signature",
    "verify",
    "webhook",
]

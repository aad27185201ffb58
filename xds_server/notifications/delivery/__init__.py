"""Deliver notifications to their targets over HTTP (I/O)."""

from xds_server.notifications.delivery.http import DeliveryResult, client_session, post
from xds_server.notifications.delivery.outbox import DeliveryCounts, DeliverySettings, History, Outbox

__all__ = [
    "DeliveryCounts",
    "DeliveryResult",
    "DeliverySettings",
    "History",
    "Outbox",
    "client_session",
    "post",
]

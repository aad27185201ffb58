"""Telling others what happened to routes (I/O)."""

from xds_server.notifications.delivery.http import Answer, post, session
from xds_server.notifications.delivery.outbox import Counts, History, Outbox, RetryPolicy

__all__ = ["Answer", "Counts", "History", "Outbox", "RetryPolicy", "post", "session"]

"""Telling others what happened to routes (I/O)."""

from xds_server.outbox.outbox import Counts, History, Outbox, Patience
from xds_server.outbox.post import Answer, post, session

__all__ = ["Answer", "Counts", "History", "Outbox", "Patience", "post", "session"]

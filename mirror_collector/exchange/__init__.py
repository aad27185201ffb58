"""Captured exchanges as values: legs, how they are read from the wire, how they are paired and understood.

Pure: no I/O, no clock, no randomness. What comes in is hostile until proven otherwise; whatever cannot be
read becomes a `Rejection` with a reason, never an exception.
"""

from __future__ import annotations

from mirror_collector.exchange.document import parse_document
from mirror_collector.exchange.exposure import Exposure, Exposures, Feedback, Outcome
from mirror_collector.exchange.log_entry import CAPTURE_NAMESPACE, Message, parse_entry, parse_message
from mirror_collector.exchange.model import (
    Body,
    Failure,
    Leg,
    Pair,
    Rejection,
    RejectionReason,
    RequestId,
    Role,
    RouteName,
    Unpaired,
    UnpairedReason,
    Variant,
)
from mirror_collector.exchange.openai import read_reply
from mirror_collector.exchange.pairing import Pairing, PairingLimits, Settled
from mirror_collector.exchange.reply import Reply, ReplyKind, ToolCall

__all__ = [
    "CAPTURE_NAMESPACE",
    "Body",
    "Exposure",
    "Exposures",
    "Failure",
    "Feedback",
    "Leg",
    "Message",
    "Outcome",
    "Pair",
    "Pairing",
    "PairingLimits",
    "Rejection",
    "RejectionReason",
    "Reply",
    "ReplyKind",
    "RequestId",
    "Role",
    "RouteName",
    "Settled",
    "ToolCall",
    "Unpaired",
    "UnpairedReason",
    "Variant",
    "parse_document",
    "parse_entry",
    "parse_message",
    "read_reply",
]
